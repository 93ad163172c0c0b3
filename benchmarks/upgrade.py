"""The upgrade table: what keeps a new cloud model compatible with the old ones, at equal budget.

    python -m benchmarks.upgrade objects820   # an hour of one core; goes on where it stopped
    python -m benchmarks.upgrade emoji
    python -m benchmarks.upgrade objects820 --split val   # what weights were chosen by

A chain of three versions: the first sees a quarter of the training classes, the second half of
them, the third all. Version 2 is trained against version 1 and version 3 against version 2, by each
method, all with the same steps and begun with the weights of the version before; version 3 never
sees version 1. Whole networks learn, by the recipes behind `kinspace train` and `kinspace upgrade`.
Measured on unseen classes: criterion, update gain against new*, and the tax on the self-test; new*
is without constraint, the better of one that begins alike and one that begins with the starter.
Results go to benchmarks/results/upgrade.md and upgrade.json as they come.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.cache import cache_folder, write_atomic
from compat.arrays import read_array, write_array
from compat.backward import Backward, average_precisions, backward
from compat.dataset import Dataset, LabelledImage, read_dataset
from compat.files import read_bounded
from compat.preprocess import Floats, Preprocess
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from compat.scores import Relevance, relevance
from compat.statistics import paired_difference_interval
from compat.terminal import STDERR
from compat.wire import canonical_json
from registry.upgrading import trainable
from server_models.cloud_config import CloudConfig
from server_models.config import DataConfig, FamilyConfig, UpgradeConfig
from server_models.config_section import Schedule
from server_models.embed import embed_all
from server_models.loss_config import LossTerm, TermName
from server_models.member_config import MemberConfig
from server_models.old_release import OldModel, read_cloud
from server_models.pixels import Decoded, decode_all
from server_models.run_folder import RunFolder
from server_models.train_cloud import Start, train_cloud
from server_models.upgrade_cloud import OldView, upgrade_cloud

RESULTS = Path(__file__).parent / "results"
MAX_RESULTS_BYTES = 2**24


@dataclass(frozen=True)
class Source:
    """A manifest in the cache, and which views are searched, and searched with."""

    manifest: str
    steps: int  # of each version
    queries: tuple[str, ...] = ("",)  # what a view begins with
    gallery: tuple[str, ...] = ("",)


SETS = {
    "objects820": Source(
        "objects820/128px/full.csv",
        steps=1200,
        queries=("wild-00", "wild-02", "wild-04", "wild-06"),
        gallery=("studio",),
    ),
    "emoji": Source("emoji/64px/manifest.csv", steps=600),
}
SHARES = (0.25, 0.5, 1.0)  # of the training classes
PAIRS = ((2, 1), (3, 2), (3, 1))  # newer, older
SEED, DIM = 0, 128
RECIPE = Preprocess(size_px=64)


def family_of(steps: int) -> FamilyConfig:
    """Of which only the cloud model is trained."""
    schedule = Schedule(steps=steps, batch=64, learning_rate=3e-3)
    cloud = CloudConfig(
        backbone="kin-s",
        preprocess=RECIPE,
        scale=16,
        margin=0.15,
        head_learning_rate=0.02,
        schedule=schedule,
    )
    member = MemberConfig(name="unused", backbone="kin-s", preprocess=RECIPE, schedule=schedule)
    return FamilyConfig(
        family="upgrade",
        dim=DIM,
        seed=SEED,
        data=DataConfig(path=Path("unused")),
        cloud=cloud,
        members=(member,),
    )


def only(term: TermName, weight: float) -> UpgradeConfig:
    """One term of the literature, which asks each image for the old model's own word on it."""
    losses = (LossTerm(term=term, weight=weight),)
    return UpgradeConfig(losses=losses, aim="image", start="old")


OURS, INDEPENDENT, NO_TERM = "kinspace", "independent", "no term"
METHODS: Mapping[str, UpgradeConfig | None] = {  # added to the new model's own loss
    OURS: UpgradeConfig(start="old"),
    INDEPENDENT: None,  # begins with the starter
    NO_TERM: None,
    "l2, weight 10": only("regression", 10),
    "lwf": only("distilled", 1),
    "bct": only("influence", 1),
    "l2": only("regression", 1),
}


@dataclass(frozen=True)
class Chain:
    """One data set, the runs over it, and the split that they are measured on."""

    name: str
    split: str

    @property
    def runs(self) -> Path:
        return cache_folder() / "runs" / f"upgrade-whole-{self.name}"

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(cache_folder() / SETS[self.name].manifest)

    @cached_property
    def queries(self) -> tuple[LabelledImage, ...]:
        return self._shown("query", SETS[self.name].queries)

    @cached_property
    def gallery(self) -> tuple[LabelledImage, ...]:
        return self._shown("gallery", SETS[self.name].gallery)

    def _shown(self, role: str, views: tuple[str, ...]) -> tuple[LabelledImage, ...]:
        images = self.dataset.of(self.split, role)
        return tuple(i for i in images if i.columns.get("view", "").startswith(views))

    @property
    def classes(self) -> list[str]:
        """(Q,) what intervals resample whole."""
        return [image.label for image in self.queries]

    @cached_property
    def _relevance(self) -> Relevance:
        return relevance(self.classes, [image.label for image in self.gallery])

    @cached_property
    def _asked(self) -> tuple[Decoded, Decoded]:
        """Queries and gallery with their pixels."""
        return decode_all(self.queries, RECIPE, title="decode queries"), decode_all(
            self.gallery, RECIPE, title="decode gallery"
        )

    @cached_property
    def _learned(self) -> Decoded:
        return decode_all(self.dataset.of("train"), RECIPE, title="decode train")

    def seen_by(self, version: int) -> Decoded:
        """The images of the first classes in one drawn order."""
        every = self._learned.classes
        order = np.random.default_rng(SEED).permutation(len(every))
        chosen = {every[i] for i in order[: round(SHARES[version - 1] * len(every))]}
        rows = [row for row, image in enumerate(self._learned.images) if image.label in chosen]
        images = tuple(self._learned.images[row] for row in rows)
        return Decoded(images, self._learned.pixels[rows])

    def model(self, method: str, version: int) -> tuple[OldModel, dict[str, Floats]]:
        """A trained version and its head by class; the first is the same for all methods."""
        folder = self._folder(method, version)
        if not folder.weights.exists():
            self._train(method, version, folder)
        return read_cloud(folder)

    def _train(self, method: str, version: int, folder: RunFolder) -> None:
        decoded, digest = self.seen_by(version), f"{self.name} {SHARES[version - 1]}"
        family = family_of(SETS[self.name].steps)
        cloud, upgrade = trainable(family), METHODS[method]
        if version == 1 or method == INDEPENDENT:
            train_cloud(family, cloud, decoded, data_digest=digest, folder=folder)
            return
        old, head = self.model(method, version - 1)
        if upgrade is None:
            start = Start(old.net, old.digest)
            train_cloud(family, cloud, decoded, data_digest=digest, folder=folder, start=start)
            return
        view = OldView(embed_all(old.net, RECIPE, decoded.pixels), head, old.digest, old.net)
        upgrade_cloud(family, cloud, upgrade, decoded, view, data_digest=digest, folder=folder)

    def _folder(self, method: str, version: int) -> RunFolder:
        return RunFolder(self.runs / f"{version} {method if version > 1 else INDEPENDENT}")

    def sides(self, method: str, version: int) -> tuple[Floats, Floats]:
        """(Q, D), (G, D) of one version on the unseen classes, kept beside its weights."""
        paths = [
            self._folder(method, version).path / f"{self.split} {what}.npy"
            for what in ("queries", "gallery")
        ]
        if not all(path.exists() for path in paths):
            model, _ = self.model(method, version)
            for path, shown in zip(paths, self._asked, strict=True):
                write_array(path, embed_all(model.net, RECIPE, shown.pixels))
        return read_array(paths[0]), read_array(paths[1])

    def test(self, method: str, query: int, gallery: int) -> PerQuery:
        """M(version, version) of one method's chain: (Q,) average precisions."""
        queries, rows = self.sides(method, query)[0], self.sides(method, gallery)[1]
        return average_precisions(queries, rows, self._relevance)


def unconstrained(chain: Chain, version: int) -> PerQuery:
    """M(new*, new*): of the two models without constraint, the one that is better at it."""
    each = [chain.test(method, version, version) for method in (INDEPENDENT, NO_TERM)]
    return max(each, key=lambda found: float(np.nanmean(found)))


def judged(chain: Chain, method: str, newer: int, older: int) -> Backward:
    """One pair of a method's chain; new* of the update gain has seen the same classes."""
    return backward(
        chain.test(method, newer, older),
        chain.test(method, older, older),
        unconstrained(chain, newer),
        chain.classes,
    )


def rows_of(chain: Chain, method: str) -> Iterator[dict[str, object]]:
    """One row a pair of versions: fractions of mAP on unseen classes."""
    for newer, older in PAIRS:
        found = judged(chain, method, newer, older)
        own, free = chain.test(method, newer, newer), unconstrained(chain, newer)
        gain = found.update_gain
        yield {
            "set": chain.name,
            "query": str(newer),
            "gallery": str(older),
            "method": method,
            "cross": round(found.cross.value, 4),
            "self_old": round(found.self_old.value, 4),
            "above": _triple(found.above),
            "criterion": found.criterion,
            "update_gain": round(gain.value, 4) if gain else None,
            "ci95": _triple(gain)[1:] if gain else None,
            "self_new": round(float(np.nanmean(own)), 4),
            "self_unconstrained": round(float(np.nanmean(free)), 4),
            "self_above_unconstrained": _triple(
                paired_difference_interval(own, free, chain.classes)
            ),
            "ours_above": _triple(
                paired_difference_interval(
                    chain.test(OURS, newer, older), chain.test(method, newer, older), chain.classes
                )
            ),
        }


def _triple(estimate: Estimate) -> list[float]:
    """Value, low, high of the 95% interval."""
    return [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)]


def table_of(rows: list[dict[str, Any]]) -> str:
    """Markdown; percent lives here."""
    lines = [
        "| set | method | M(new, old) | M(old, old) | criterion | update gain | M(new, new) "
        "| above new* | ours above, M(new, old) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gain = "undefined"
        if row["update_gain"] is not None:
            low, high = row["ci95"]
            gain = f"{row['update_gain']:.2f} ({low:.2f} to {high:.2f})"
        ours = "" if row["method"] == OURS else _points(row["ours_above"])
        lines.append(
            f"| {row['set']} ({row['query']},{row['gallery']}) | {row['method']} "
            f"| {row['cross']:.1%} | {row['self_old']:.1%} "
            f"| {'holds' if row['criterion'] else 'fails'} {_points(row['above'])} | {gain} "
            f"| {row['self_new']:.1%} | {_points(row['self_above_unconstrained'])} | {ours} |"
        )
    return "\n".join(lines) + "\n"


def _points(triple: list[float]) -> str:
    value, low, high = (100 * x for x in triple)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def write_results(split: str, name: str, rows: list[dict[str, object]]) -> str:
    """Put one set's rows beside the other set's; the table."""
    kept = RESULTS / ("upgrade.json" if split == "test" else f"upgrade-{split}.json")
    before = json.loads(read_bounded(kept, MAX_RESULTS_BYTES))["pairs"] if kept.exists() else []
    pairs = [row for row in before if row["set"] != name] + rows
    table = table_of(pairs)
    write_atomic(kept, canonical_json({"pairs": pairs}))
    write_atomic(kept.with_suffix(".md"), table.encode())
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--split", choices=("val", "test"), default="test")
    given = parser.parse_args()
    chain = Chain(given.set, given.split)
    rows: list[dict[str, object]] = []
    for method in METHODS:
        rows += rows_of(chain, method)
        table = write_results(chain.split, chain.name, rows)
        STDERR.print(f"{method}: measured")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
