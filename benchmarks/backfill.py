"""Partial backfill: accuracy against the share of the gallery that was embedded again.

    python -m benchmarks.backfill

Real pairs of one embedding space, on objects that nobody trained on: the old generation embedded
the whole gallery, the new one takes over row by row, queries are the new model's. Orders: the
product's own (`registry.backfill`: expected change, read off the rows that are done), at random,
each the mean of five, and none, which is no backfill at all. Needs the demo family and the networks
of the pattern table (`python -m benchmarks.pattern demo`). Writes benchmarks/results/backfill.md,
.json and .svg.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut, Sides
from benchmarks.tables import RESULTS, publish_table
from compat.backfill_order import most_changed_first
from compat.files import write_atomic
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from compat.scores import Ints
from registry.backfill import ORDERINGS, SAMPLE_SHARE
from registry.stages import family_of
from registry.workspace import Workspace
from server_models.config import read_family

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHOWN = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
DRAWS = 5
PAIRS = (("raml", "a small network"), ("edge-m", "the demo's larger member"))
COLOURS = {"uncertainty": "#c2410c", "random": "#1d4ed8"}


@dataclass(frozen=True)
class Curve:
    """M(new, gallery half way) at each of `SHARES`."""

    order: str
    points: tuple[Estimate, ...]  # mAP
    per_query: tuple[PerQuery, ...]

    @property
    def area(self) -> float:
        """Under the curve of mAP, in [0, 1]: what searchers get on the way."""
        return float(np.trapezoid([each.value for each in self.points], SHARES))


def curve(held_out: HeldOut, order: str, new: Sides, old: Floats, orders: list[Ints]) -> Curve:
    """Mean over ``orders`` of the gallery's rows: (G, D) old and new embeddings."""
    per_query = []
    for share in SHARES:
        drawn = []
        for rows in orders:
            done = rows[: round(share * len(rows))]
            gallery = old.copy()
            gallery[done] = new.gallery[done]
            drawn.append(held_out.test(new.queries, gallery).average_precision)
        per_query.append(np.mean(drawn, axis=0))
    return Curve(order, tuple(map(held_out.mean, per_query)), tuple(per_query))


def by_uncertainty(old: Floats, new: Floats, seed: int) -> Ints:
    """The rows in the product's order: a random sample, then by expected change, read anew."""
    rows = np.random.default_rng(seed).permutation(len(old))
    done = rows[: int(np.ceil(SAMPLE_SHARE * len(rows)))]
    step = int(np.ceil(len(rows) / ORDERINGS))
    while len(done) < len(rows):
        rest = rows[~np.isin(rows, done)]
        first = most_changed_first(old[rest], old[done], new[done])[:step]
        done = np.concatenate([done, rest[first]])
    return done


def curves(held_out: HeldOut, new: Sides, old: Floats) -> tuple[Curve, Curve]:
    """In the product's order and at random, each a mean of `DRAWS`."""
    seeds = range(DRAWS)
    at_random = [np.random.default_rng(seed).permutation(len(old)) for seed in seeds]
    ordered = [by_uncertainty(old, new.gallery, seed) for seed in seeds]
    return (
        curve(held_out, "uncertainty", new, old, ordered),
        curve(held_out, "random", new, old, at_random),
    )


def measured(run: str) -> Iterator[tuple[str, HeldOut, tuple[Curve, Curve]]]:
    """Each pair's curves."""
    workspace = Workspace(cache_folder() / "runs" / run)
    here = Path(__file__).parent
    for recipe in (here / "recipes" / "pattern-demo.toml", here.parent / "registry" / "demo.toml"):
        held_out = HeldOut(family_of(read_family(recipe), workspace))
        for member in held_out.family.config.members:
            if member.name in dict(PAIRS):
                old = held_out.member(member).gallery
                yield member.name, held_out, curves(held_out, held_out.cloud, old)


def plot(found: dict[str, tuple[Curve, Curve]]) -> bytes:
    """SVG, one panel a pair: mAP against the share that is done."""
    with mpl.rc_context({"svg.hashsalt": "kinspace", "font.size": 9.5}):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, pair) in zip(panels, found.items(), strict=True):
            none = pair[0].points[0].value
            axes.axhline(none, color="grey", linestyle=":", label="no backfill")
            axes.axhline(pair[0].points[-1].value, color="grey", linestyle="--", label="all done")
            for each in pair:
                values = [point.value for point in each.points]
                colour = COLOURS[each.order]
                axes.plot(
                    SHARES, values, color=colour, marker="o", markersize=3.5, label=each.order
                )
            axes.set_title(f"old: {name}, new: cloud")
            axes.set_xlabel("share of the gallery embedded again")
            axes.set_ylabel("mAP of the new model's queries")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.grid(visible=True, alpha=0.3)
        panels[0].legend(loc="upper left")
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="demo", help="folder of the trained models, in the cache")
    found: dict[str, tuple[Curve, Curve]] = {}
    rows: list[dict[str, object]] = []
    for name, held_out, pair in measured(parser.parse_args().run):
        found[name] = pair
        ordered, at_random = pair
        none = at_random.points[0]
        rows.append({"old": name, "order": "none", "area": none.value, **_at(at_random, (0.0,))})
        for each in (at_random, ordered):
            rows.append({"old": name, "order": each.order, "area": each.area, **_at(each)})
        gain = held_out.difference(_area(ordered), _area(at_random))
        rows.append(
            {
                "old": name,
                "order": "uncertainty - random",
                "area": gain.value,
                **dict.fromkeys(_at(at_random)),
                "ci95": f"{gain.low:+.4f} to {gain.high:+.4f}",
            }
        )
    for row in rows:
        row.setdefault("ci95", None)
    notes = (
        "mAP of the new cloud model's queries while the gallery is embedded again, at the share "
        "that is done; area = mean over the way. 640 queries, 480 gallery rows of 160 objects that "
        "nobody trained on; intervals resample objects.",
    )
    publish_table("backfill", "Partial backfill", rows, notes=notes)
    write_atomic(RESULTS / "backfill.svg", plot(found))


def _area(each: Curve) -> PerQuery:
    area: PerQuery = np.trapezoid(np.stack(each.per_query), SHARES, axis=0)
    return area


def _at(each: Curve, shares: tuple[float, ...] = SHOWN) -> dict[str, float | None]:
    return {
        f"{share:.0%}": each.points[SHARES.index(share)].value if share in shares else None
        for share in SHOWN
    }


if __name__ == "__main__":
    main()
