"""Merging rows of two generations: which map of their scores finds most.

    python -m benchmarks.calibration

Half of the gallery is embedded by an old model, half by a new one. Where the two are of one space
one model asks both, else each is asked by a model of its own (dual query). Each half's cosines are
brought onto a scale that was fitted on one half of the objects, and searched on the other, and the
other way round. Maps: none; both sides' means set equal; the strangers' mean and spread set equal
(Z-norm); log odds, the product's own (`compat.calibration`). Needs the networks of the pattern
table and of the demo. Writes benchmarks/results/calibration.md and .json.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut, Sides
from benchmarks.tables import publish_table
from compat.calibration import log_odds
from compat.embedding import unit_rows
from compat.preprocess import Floats
from compat.retrieval import PerQuery, average_precision, ranks_in_row
from compat.scores import relevance
from registry.stages import family_of
from registry.workspace import Workspace
from server_models.config import read_family

HERE = Path(__file__).parent
RECIPES = (HERE / "recipes" / "pattern-demo.toml", HERE.parent / "registry" / "demo.toml")
DRAWS = 5
CASES = (  # who asks the old rows, old rows, who asks the new rows, new rows
    ("cloud", "raml", "cloud", "cloud"),
    ("cloud", "edge-m", "cloud", "cloud"),
    ("edge-m", "raml", "edge-m", "cloud"),
    ("edge-s", "edge-m", "edge-s", "cloud"),
    ("ours", "raml", "ours", "cloud"),
    ("edge-s", "raml", "edge-s", "edge-m"),
    ("vanilla", "vanilla", "cloud", "cloud"),
    ("vanilla", "vanilla", "edge-m", "cloud"),
)
Same = npt.NDArray[np.bool_]  # (Q, G) whether the two show one object
Line = tuple[float, float]  # scale and shift
Map = Callable[[Floats, Floats, list[str], list[str]], Line]


def _none(query: Floats, gallery: Floats, asked: list[str], held: list[str]) -> Line:
    return 1.0, 0.0


def _means(query: Floats, gallery: Floats, asked: list[str], held: list[str]) -> Line:
    """Strangers' mean to 0, finds' mean to 1."""
    scores, same = query @ gallery.T, _same(asked, held)
    low, high = scores[~same].mean(), scores[same].mean()
    return float(1 / (high - low)), float(-low / (high - low))


def _strangers(query: Floats, gallery: Floats, asked: list[str], held: list[str]) -> Line:
    """Z-norm (Auckenthaler et al. 2000): strangers' mean to 0, their deviation to 1."""
    scores = (query @ gallery.T)[~_same(asked, held)]
    return float(1 / scores.std()), float(-scores.mean() / scores.std())


def _log_odds(query: Floats, gallery: Floats, asked: list[str], held: list[str]) -> Line:
    found = log_odds(query, gallery, relevance(asked, held))
    assert found is not None
    return found.slope, found.offset


MAPS: dict[str, Map] = {
    "none": _none,
    "means": _means,
    "strangers": _strangers,
    "log odds": _log_odds,
}


def models(run: str) -> tuple[HeldOut, dict[str, Sides]]:
    """All of the demo's space but ``vanilla``, which has one of its own; by name."""
    workspace = Workspace(cache_folder() / "runs" / run)
    wanted = {name for case in CASES for name in case}
    found: dict[str, Sides] = {}
    for recipe in RECIPES:
        held_out = HeldOut(family_of(read_family(recipe), workspace))
        found |= {
            each.name: held_out.member(each)
            for each in held_out.family.config.members
            if each.name in wanted
        }
    return held_out, found | {"cloud": held_out.cloud}


def merged(held_out: HeldOut, halves: tuple[Sides, Sides], by: Map) -> PerQuery:
    """AP of each query, the mean of `DRAWS`: old and new (Q, D), (G, D) -> (Q,)."""
    asked = [image.label for image in held_out.queries]
    held = [image.label for image in held_out.gallery]
    drawn = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        is_new = rng.random(len(held)) < 0.5
        labels = sorted(set(asked))
        first = set(rng.permutation(labels)[: len(labels) // 2].tolist())
        found = np.full(len(asked), np.nan)
        for fold in (first, set(labels) - first):
            fit, test = (
                [[row for row, label in enumerate(side) if (label in fold) is inside]
                 for side in (asked, held)]
                for inside in (False, True)
            )  # fmt: skip
            scores = []
            for half in halves:
                names = [asked[row] for row in fit[0]], [held[row] for row in fit[1]]
                scale, shift = by(half.queries[fit[0]], half.gallery[fit[1]], *names)
                cosines = half.queries[test[0]] @ half.gallery[test[1]].T
                scores.append(scale * cosines + shift)
            whole = np.where(is_new[test[1]], scores[1], scores[0])
            same = _same([asked[row] for row in test[0]], [held[row] for row in test[1]])
            for row, of_row, right in zip(test[0], whole, same, strict=True):
                found[row] = average_precision(ranks_in_row(of_row, np.sort(of_row[right])))
        drawn.append(found)
    mean: PerQuery = np.mean(drawn, axis=0)
    return mean


def _same(asked: list[str], held: list[str]) -> Same:
    same: Same = np.array(asked)[:, None] == np.array(held)[None, :]
    return same


def measured(run: str) -> Iterator[dict[str, object]]:
    """A row a case."""
    held_out, found = models(run)
    for case in CASES:
        unit = [unit_rows(found[name].queries, name) for name in case[::2]]
        rows = [unit_rows(found[name].gallery, name) for name in case[1::2]]
        old, new = (Sides(*half) for half in zip(unit, rows, strict=True))
        by_map = {name: merged(held_out, (old, new), by) for name, by in MAPS.items()}
        gain = held_out.difference(by_map["log odds"], by_map["none"])
        yield {
            "old rows": f"{case[0]} on {case[1]}",
            "new rows": f"{case[2]} on {case[3]}",
            **{name: held_out.mean(values).value for name, values in by_map.items()},
            "log odds - none": f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="demo", help="folder of the trained models, in the cache")
    rows = list(measured(parser.parse_args().run))
    notes = (
        "mAP in a gallery of which half, drawn at random, is embedded by the new model; mean of "
        f"{DRAWS} draws. The maps are fitted on other objects than they are searched on. 640 "
        "queries, 480 gallery rows of 160 objects that nobody trained on; intervals resample "
        "objects.",
    )
    publish_table("calibration", "Merging the scores of two generations", rows, notes=notes)


if __name__ == "__main__":
    main()
