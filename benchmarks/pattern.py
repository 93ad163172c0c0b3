"""The pattern table: which losses land in the gallery's coordinates, at equal budget.

    python -m benchmarks.pattern demo         # the images that come with the project: minutes
    python -m benchmarks.pattern objects820   # wild views search studio views
    python -m benchmarks.pattern emoji        # one house's drawings search another's

Trains one small network with each loss against the same frozen gallery model (resumable) and writes
benchmarks/results/pattern-SET.md and .json: self-test M(q, q)
and cross-test M(q, g) on unseen classes, beside chance. Losses that never see a coordinate of the
gallery must come out at chance in the cross-test, however good they are alone (arXiv:2105.06047,
table 4); if they do not, the evaluator is wrong, and the command exits 1.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.data.cache import cache_folder, write_atomic
from benchmarks.evaluate import VIEWS, HeldOut
from compat.report_parts import Estimate
from compat.retrieval import RetrievalPerQuery
from compat.wire import canonical_json
from registry.stages import family_of, train
from registry.workspace import Workspace
from server_models.config import read_family

RECIPES = Path(__file__).parent / "recipes"
RESULTS = Path(__file__).parent / "results"
BLIND = ("vanilla", "logit-kd", "rkd")  # see no coordinate of the gallery
CHANCE_FACTOR = 2.0  # of chance's mAP; a loss that lands is far above, one that does not below
OURS = "ours"


def rows_of(held_out: HeldOut) -> list[dict[str, object]]:
    """One row a loss: fractions with intervals, and how far ours is above it."""
    cloud = held_out.cloud
    paragon = held_out.test(cloud.queries, cloud.gallery)
    chance = held_out.chance()
    members = {m.name: held_out.member(m) for m in held_out.family.config.members}
    crosses = {n: held_out.test(sides.queries, cloud.gallery) for n, sides in members.items()}
    rows: list[dict[str, object]] = [
        {"loss": "chance", "cross": _measures(held_out, chance)},
        {"loss": "paragon", "cross": _measures(held_out, paragon)},
    ]
    for name, sides in members.items():
        above = held_out.difference(
            crosses[OURS].average_precision, crosses[name].average_precision
        )
        rows.append(
            {
                "loss": name,
                "self": _measures(held_out, held_out.test(sides.queries, sides.gallery)),
                "cross": _measures(held_out, crosses[name]),
                "ours_above_map": _triple(above),
            }
        )
    return rows


def _measures(held_out: HeldOut, tested: RetrievalPerQuery) -> dict[str, list[float]]:
    measured = {
        "hit_rate@1": tested.hit_rate_at_1,
        "hit_rate@10": tested.hit_rate_at_10,
        "map": tested.average_precision,
    }
    return {name: _triple(held_out.mean(values)) for name, values in measured.items()}


def _triple(estimate: Estimate) -> list[float]:
    """Value, low, high of the 95% interval."""
    return [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)]


def table_of(rows: list[dict[str, object]]) -> str:
    """Markdown; percent lives here."""
    lines = [
        "| loss | self hit@1 / hit@10 / mAP | cross hit@1 / hit@10 / mAP | ours above, cross mAP |",
        "|---|---|---|---|",
    ]
    for row in rows:
        above = row.get("ours_above_map")
        gap = "" if above is None or row["loss"] == OURS else _points(above)  # type: ignore[arg-type]
        lines.append(
            f"| {row['loss']} | {_cells(row.get('self'))} | {_cells(row['cross'])} | {gap} |"
        )
    return "\n".join(lines) + "\n"


def _cells(measured: object) -> str:
    if not isinstance(measured, dict):
        return ""
    return " / ".join(f"{100 * values[0]:.1f}" for values in measured.values())


def _points(triple: list[float]) -> str:
    value, low, high = (100 * x for x in triple)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def blind_ones_that_see(rows: list[dict[str, object]]) -> list[str]:
    """Losses without coordinates whose cross-test is above chance: the evaluator is wrong."""
    maps = {str(row["loss"]): row["cross"]["map"][0] for row in rows}  # type: ignore[index]
    return [name for name in BLIND if maps.get(name, 0) > CHANCE_FACTOR * maps["chance"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=sorted(VIEWS))
    name = parser.parse_args().set
    config = read_family(RECIPES / f"pattern-{name}.toml")
    workspace = Workspace(cache_folder() / "runs" / name)
    train(config, workspace)
    rows = rows_of(HeldOut(family_of(config, workspace), gallery_view=VIEWS[name]))
    table = table_of(rows)
    write_atomic(RESULTS / f"pattern-{name}.json", canonical_json({"rows": rows}))
    write_atomic(RESULTS / f"pattern-{name}.md", table.encode())
    sys.stdout.write(table)
    if wrong := blind_ones_that_see(rows):
        sys.exit(f"{wrong} see no coordinate of the gallery and are above chance: look for a leak")


if __name__ == "__main__":
    main()
