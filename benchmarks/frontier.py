"""The frontier: cross accuracy against MACs, latency and bytes, searched nets and hand-made ones.

    python -m benchmarks.frontier emoji       # or objects820

Networks that a search found (benchmarks/recipes/search-SET.toml) and networks that people
made (`benchmarks.handmade`), each under a limit of MACs, begun with nothing and trained by the same
lessons. What is measured are their ONNX files, fp32 and int8, on unseen classes, with the embedder
that ships; latency on one thread, as a ratio to one network in the same run. Resumable; writes
benchmarks/results/frontier-SET.md, .json and .svg.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from benchmarks.data.cache import write_atomic
from benchmarks.evaluate import HeldOut
from benchmarks.frontier_plot import frontier_plot
from benchmarks.handmade import FAMILIES, widest
from benchmarks.latency_ratio import Timed, time_together
from benchmarks.school import School
from benchmarks.search_run import chosen_search
from benchmarks.tables import RESULTS, Row, publish_table
from compat.manifest import Precision
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from edge.embedder import RuntimeEmbedder
from edge.runtimes import open_runtime
from server_models.architecture import Architecture, SearchSpace
from server_models.edge_net import SPECS, EdgeNet
from server_models.evolution import Trial
from server_models.export import count_macs, export_onnx_fp32, export_onnx_int8
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all
from server_models.train_supernet import sized

SHARES = (1.0, 0.75, 0.5)  # of the search's limit of MACs: where its front is looked at
REFERENCE = "kin-s"  # latencies are ratios to its fp32 file
HAND_PX = 64
SEARCHED, HAND_MADE = "searched", "hand-made"


@dataclass(frozen=True, eq=False)
class Entrant:
    """One network in the race."""

    name: str
    origin: str
    size_px: int
    build: Callable[[], nn.Module]
    what: Mapping[str, object]  # decides the network

    @property
    def macs(self) -> int:
        return count_macs(self.build(), self.size_px)


@dataclass(frozen=True)
class Artifact:
    """One file of one network, measured on unseen classes."""

    entrant: Entrant
    precision: Precision
    size_bytes: int
    hit_rate_at_10: PerQuery
    average_precision: PerQuery
    timed: Timed


def hand_made(dim: int, max_macs: int) -> list[Entrant]:
    """Our own kin-s and each family of `benchmarks.handmade` at the limit and at half of it."""
    spec = SPECS["kin-s"]  # of HAND_PX, too
    found = [_of_architecture("kin-s", HAND_MADE, spec, dim)]
    for share in (SHARES[0], SHARES[-1]):
        for family in FAMILIES:
            width = widest(family, dim, size_px=HAND_PX, max_macs=round(share * max_macs))
            build = partial(FAMILIES[family], width, dim)
            what = {"family": family, "width": width}
            name = f"{family}-x{width:g}".replace(".", "")
            found.append(Entrant(name, HAND_MADE, HAND_PX, build, {"backbone": what}))
    return found


def searched(space: SearchSpace, trials: Sequence[Trial], dim: int, max_macs: int) -> list[Entrant]:
    """The candidate of the highest reward under each limit, once each, named by its limit."""
    found: dict[int, Entrant] = {}
    for share in SHARES:
        limit = share * max_macs
        allowed = [each for each in trials if each.is_allowed and each.fitness.cost <= limit]
        if not allowed:
            continue
        best = max(allowed, key=lambda each: (each.fitness.reward, -each.number))
        name = f"searched-{limit / 1e6:.1f}m".replace(".", "")
        entrant = _of_architecture(name, SEARCHED, space.build(best.decisions), dim)
        found.setdefault(best.number, entrant)
    return list(found.values())


def _of_architecture(name: str, origin: str, net: Architecture, dim: int) -> Entrant:
    what = {"backbone": net.model_dump(mode="json")}
    return Entrant(name, origin, net.size_px, partial(EdgeNet, net, dim), what)


def member_of(entrant: Entrant, like: MemberConfig) -> MemberConfig:
    """``like``'s lessons at the entrant's side; the name is the run's folder."""
    recipe = sized(like.preprocess, entrant.size_px)
    return like.model_copy(update={"name": f"frontier-{entrant.name}", "preprocess": recipe})


def files_of(school: School, entrant: Entrant, member: MemberConfig) -> dict[Precision, bytes]:
    """Trained, then exported; the files are kept beside the weights."""
    net = school.teach(entrant.build, member, what=entrant.what)
    fp32 = export_onnx_fp32(net, entrant.size_px)
    return {"fp32": fp32, "int8": export_onnx_int8(fp32, school.calibration(member.preprocess))}


def measure(
    held_out: HeldOut, files: Mapping[Entrant, Mapping[Precision, bytes]], like: MemberConfig
) -> list[Artifact]:
    """Every file by the embedder that ships: accuracy on unseen classes, then all timed in turn."""
    loaded = {
        (entrant, precision): open_runtime(blob, "onnxruntime")
        for entrant, each in files.items()
        for precision, blob in each.items()
    }
    labels = {key: f"{key[0].name} {key[1]}" for key in loaded}
    timed = time_together({labels[key]: each for key, each in loaded.items()}, f"{REFERENCE} fp32")
    found = []
    for (entrant, precision), runtime in loaded.items():
        recipe = sized(like.preprocess, entrant.size_px)
        pixels = decode_all(held_out.queries, recipe, title=f"decode for {entrant.name}").pixels
        queries = RuntimeEmbedder(runtime, recipe).embed(recipe.normalised(pixels))
        tested = held_out.test(queries, held_out.cloud.gallery)
        found.append(
            Artifact(
                entrant,
                precision,
                len(files[entrant][precision]),
                tested.hit_rate_at_10,
                tested.average_precision,
                timed[labels[entrant, precision]],
            )
        )
    return found


def above_the_best(
    held_out: HeldOut, one: Artifact, all_of_them: Sequence[Artifact]
) -> tuple[str, Estimate] | None:
    """Cross mAP of a searched file less that of the best hand-made one of at most its MACs.

    The best is chosen on the very classes that are measured, which favours the hand-made.
    """
    others = [
        each
        for each in all_of_them
        if each.entrant.origin == HAND_MADE
        and each.precision == one.precision
        and each.entrant.macs <= one.entrant.macs
    ]
    if one.entrant.origin != SEARCHED or not others:
        return None
    best = max(others, key=lambda each: held_out.mean(each.average_precision).value)
    return best.entrant.name, held_out.difference(one.average_precision, best.average_precision)


def rows_of(held_out: HeldOut, artifacts: Sequence[Artifact]) -> list[Row]:
    rows: list[Row] = []
    for each in artifacts:
        against = above_the_best(held_out, each, artifacts)
        rows.append(
            {
                "network": each.entrant.name,
                "made": each.entrant.origin,
                "file": each.precision,
                "px": each.entrant.size_px,
                "MACs": each.entrant.macs,
                "bytes": each.size_bytes,
                "latency": round(each.timed.ratio, 3),
                "quartiles": f"{each.timed.low:.2f} to {each.timed.high:.2f}",
                "ms": round(each.timed.ms, 3),
                **_measured("hit_rate@10", held_out.mean(each.hit_rate_at_10)),
                **_measured("mAP", held_out.mean(each.average_precision)),
                "mAP above the best hand-made of at most its MACs": against and _against(*against),
            }
        )
    return rows


def _measured(name: str, found: Estimate) -> Row:
    return {f"cross {name}": found.value, f"{name} 95%": f"{found.low:.4f} to {found.high:.4f}"}


def _against(name: str, found: Estimate) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), {name}"


def main() -> None:
    run = chosen_search(__doc__)
    search, held_out = run.search, run.held_out
    family, limit = search.family, search.config.max_macs
    school, dim = School(family), family.config.dim
    found = searched(search.config.space, search.evolve(), dim, limit)
    entrants = found + hand_made(dim, limit)
    files = {each: files_of(school, each, member_of(each, search.member)) for each in entrants}
    artifacts = measure(held_out, files, search.member)
    rows = rows_of(held_out, artifacts)
    cloud = held_out.cloud
    tested = held_out.test(cloud.queries, cloud.gallery)
    paragon, hits = (
        held_out.mean(values) for values in (tested.average_precision, tested.hit_rate_at_10)
    )
    schedule, name = search.member.schedule, f"frontier-{run.set}"
    notes = [
        f"Every network begins with nothing and is trained for {schedule.steps} steps of "
        f"{schedule.batch} images by the same losses, seed {family.config.seed}, a short schedule. "
        f"{len(set(held_out.classes))} unseen classes; fractions. Paragon: "
        f"hit_rate@10 {hits.value:.4f}, mAP {paragon.value:.4f} ({paragon.low:.4f} to "
        f"{paragon.high:.4f}). Latency is a ratio to {REFERENCE} fp32 on ONNX Runtime, one thread, "
        f"taking turns in one run; ms are of that machine ({platform.machine()}).",
        f"Made by `python -m benchmarks.frontier {run.set}`. [The picture]({name}.svg).",
    ]
    publish_table(name, f"Cross accuracy against cost ({run.set})", rows, notes=notes)
    write_atomic(RESULTS / f"{name}.svg", frontier_plot(rows, paragon.value).encode())


if __name__ == "__main__":
    main()
