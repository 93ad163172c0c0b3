"""The reward table: which cheap measure of a network predicts how well it serves the cloud model.

    python -m benchmarks.rewards emoji        # or objects820

Networks of nearly equal MACs are drawn from the search space. The truth of each is its cross mAP on
unseen classes after training with the compatibility losses; against it stand its self mAP after
training alone and after training in the manner of BCT, and the supernet's rewards with inherited
weights, all measured on the classes that a search sees (arXiv:2105.06047). Schedules and
limits are those of benchmarks/recipes/search-SET.toml. Resumable; writes
benchmarks/results/rewards-SET.md, rewards-SET-nets.md and their .json.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.evaluate import HeldOut
from benchmarks.school import School
from benchmarks.search_run import chosen_search
from benchmarks.tables import Row, publish_table
from compat.statistics import LEVEL, RESAMPLES
from compat.statistics import SEED as RESAMPLING_SEED
from server_models.architecture import Architecture, SearchSpace
from server_models.edge_net import EdgeNet
from server_models.export import count_macs
from server_models.loss_config import LossTerm
from server_models.member_config import MemberConfig
from server_models.search import Search
from server_models.train_supernet import sized

NETS, SEED = 12, 1
SHARE = 0.75  # of the limit: no drawn network costs less
REWARDS = ("R1", "R2", "R3")
VANILLA, BCT, OURS = "vanilla", "bct", "ours"

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Drawn:
    """One network of the space."""

    name: str
    decisions: dict[str, int]
    net: Architecture
    macs: int


@dataclass(frozen=True)
class Measured:
    """What each measure says of one network, by its name, and the truth: fractions."""

    drawn: Drawn
    told: Mapping[str, float]
    truth: float


def draw(space: SearchSpace, dim: int, *, max_macs: int) -> tuple[Drawn, ...]:
    """`NETS` different networks that cost between `SHARE` of ``max_macs`` and all of it."""
    rng = np.random.default_rng(SEED)
    found: list[Drawn] = []
    while len(found) < NETS:
        decisions = space.draw(rng)
        net = space.build(decisions)
        macs = count_macs(EdgeNet(net, dim), net.size_px)
        if SHARE * max_macs <= macs <= max_macs and all(net != other.net for other in found):
            found.append(Drawn(f"net-{len(found) + 1}", decisions, net, macs))
    return tuple(found)


def lessons(drawn: Drawn, like: MemberConfig) -> dict[str, MemberConfig]:
    """The same network three times: alone, read by the frozen head too, with ``like``'s losses."""
    alone = LossTerm(term="classification", weight=1)
    losses = {
        VANILLA: ("image", (alone,)),
        BCT: ("image", (alone, LossTerm(term="influence", weight=1))),
        OURS: (like.aim, like.losses),
    }
    return {
        how: like.model_copy(
            update={
                "name": f"{drawn.name}-{how}",
                "backbone": drawn.net,
                "start": "nothing",
                "preprocess": sized(like.preprocess, drawn.net.size_px),
                "aim": aim,
                "losses": terms,
            }
        )
        for how, (aim, terms) in losses.items()
    }


def train(school: School, member: MemberConfig) -> EdgeNet:
    """One lesson of one network; a finished one is loaded."""
    net = member.backbone
    assert isinstance(net, Architecture)
    return school.teach(lambda: EdgeNet(net, school.family.config.dim), member, what={})


def measure(search: Search, drawn: Drawn, held_out: HeldOut, school: School) -> Measured:
    """Every measure's word on one network, on the classes of the search; the truth on others."""
    size_px = drawn.net.size_px
    members = lessons(drawn, search.member)
    judged = {how: search.judge(train(school, each), size_px) for how, each in members.items()}
    inherited = search.judge(search.inherited(drawn.decisions), size_px)
    told = {
        "MACs": float(drawn.macs),
        "self, trained alone": judged[VANILLA].self_map,
        "self, trained as BCT": judged[BCT].self_map,
        **{f"supernet {name}": inherited.reward(name) for name in REWARDS},
    }
    queries = held_out.member(members[OURS]).queries
    cross = held_out.test(queries, held_out.cloud.gallery).average_precision
    return Measured(drawn, told, held_out.mean(cross).value)


def agreement(
    told: Floats, truth: Floats, rank: Callable[[Floats, Floats], float]
) -> tuple[float, float, float]:
    """Rank correlation (N,), (N,) -> value, low, high; its 95% interval resamples networks."""
    result = stats.bootstrap(
        (told, truth),
        rank,
        paired=True,
        vectorized=False,
        method="percentile",
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(RESAMPLING_SEED),
    )
    low, high = result.confidence_interval
    return rank(told, truth), float(low), float(high)


def kendall(a: Floats, b: Floats) -> float:
    """Kendall's tau-b: resamples hold a network more than once, so there are ties."""
    return float(stats.kendalltau(a, b).statistic) if _rank(a, b) else 0.0


def spearman(a: Floats, b: Floats) -> float:
    return float(stats.spearmanr(a, b).statistic) if _rank(a, b) else 0.0


def _rank(a: Floats, b: Floats) -> bool:
    """False where one says the same of every network: it predicts nothing, which is 0."""
    return bool(np.ptp(a) > 0 and np.ptp(b) > 0)


def reward_rows(measured: Sequence[Measured]) -> list[Row]:
    """One row a measure: how it ranks the networks, and the truth of the one that it would take."""
    truth = np.array([each.truth for each in measured])
    rows: list[Row] = []
    for name in measured[0].told:
        told = np.array([each.told[name] for each in measured])
        tau, rho = agreement(told, truth, kendall), agreement(told, truth, spearman)
        rows.append(
            {
                "measure": name,
                "Kendall": tau[0],
                "Kendall 95%": _interval(tau),
                "Spearman": rho[0],
                "Spearman 95%": _interval(rho),
                "cross mAP of its choice": float(truth[told.argmax()]),
            }
        )
    return rows


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[1]:+.2f} to {found[2]:+.2f}"


def net_rows(measured: Sequence[Measured]) -> list[Row]:
    """One row a network, the best first."""
    return [
        {
            "network": each.drawn.name,
            "px": each.drawn.net.size_px,
            "layers": len(each.drawn.net.layers),
            **each.told,
            "MACs": each.drawn.macs,
            "cross mAP": each.truth,
        }
        for each in sorted(measured, key=lambda each: -each.truth)
    ]


def main() -> None:
    run = chosen_search(__doc__)
    search, held_out = run.search, run.held_out
    config, school = search.family.config, School(search.family)
    drawn = draw(search.config.space, config.dim, max_macs=search.config.max_macs)
    measured = [measure(search, each, held_out, school) for each in drawn]
    schedule, macs = search.member.schedule, [each.macs / 1e6 for each in drawn]
    truth = [each.truth for each in measured]
    notes = [
        f"{NETS} networks of {min(macs):.2f} to {max(macs):.2f} M MACs drawn with seed {SEED}, "
        f"each trained three times from nothing, {schedule.steps} steps of {schedule.batch} "
        f"images, seed {config.seed}: alone (classification), as BCT (and read by the frozen head) "
        "and with the family's losses. The truth is the last one's cross mAP on "
        f"{len(set(held_out.classes))} unseen classes, {min(truth):.3f} to {max(truth):.3f}; "
        "what the measures say comes from the validation classes, as in a search. The supernet was "
        f"trained for {search.config.schedule.steps} steps. Intervals resample networks.",
        f"Made by `python -m benchmarks.rewards {run.set}`, {platform.machine()}. "
        f"[The networks](rewards-{run.set}-nets.md).",
    ]
    title = f"Which measure predicts cross accuracy ({run.set})"
    publish_table(f"rewards-{run.set}", title, reward_rows(measured), notes=notes)
    title = f"The networks of the reward table ({run.set})"
    publish_table(f"rewards-{run.set}-nets", title, net_rows(measured))


if __name__ == "__main__":
    main()
