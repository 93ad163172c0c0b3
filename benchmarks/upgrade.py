"""The upgrade table: what keeps a new cloud model compatible with the old ones, at equal budget.

    python -m benchmarks.upgrade objects820   # half an hour of one core; goes on where it stopped
    python -m benchmarks.upgrade emoji

A chain of three versions: the first sees a quarter of the training classes, the second half of
them, the third all. Version 2 is trained against version 1 and version 3 against version 2, by each
method, all with the same steps from the same starter weights; version 3 never sees version 1.
Measured on unseen classes: criterion, update gain against the model trained without constraint, and
the tax on the self-test. Results go to benchmarks/results/upgrade.md and upgrade.json as they come.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.cache import cache_folder, write_atomic
from compat.arrays import read_array, write_array
from compat.backward import Backward, average_precisions, backward
from compat.dataset import Dataset, LabelledImage, read_dataset
from compat.files import digest_of, read_bounded
from compat.manifest import canonical_json
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from compat.scores import relevance
from compat.statistics import paired_difference_interval
from server_models.config import FamilyConfig, LossTerm, TermName, UpgradeConfig, read_family
from server_models.family import embed_all
from server_models.old_release import read_cloud
from server_models.pixels import Decoded, decode_all
from server_models.run_folder import RunFolder
from server_models.train_cloud import train_cloud
from server_models.upgrade_cloud import OldView, upgrade_cloud

RECIPES = Path(__file__).parent / "recipes"
RESULTS = Path(__file__).parent / "results"
MAX_RESULTS_BYTES = 2**24
VIEW = {"objects820": "studio", "emoji": ""}  # of the gallery images that are searched
SHARES = (0.25, 0.5, 1.0)  # of the training classes
PAIRS = ((2, 1), (3, 2), (3, 1))  # newer, older


@dataclass(frozen=True)
class Method:
    """What is added to the new model's own loss, and how many dimensions a version adds."""

    losses: Mapping[TermName, float]
    extra_dims: int = 0

    @property
    def config(self) -> UpgradeConfig:
        return UpgradeConfig(
            losses=tuple(LossTerm(term=term, weight=by) for term, by in self.losses.items())
        )


INDEPENDENT, OURS = "independent", "bct"
METHODS: Mapping[str, Method] = {
    INDEPENDENT: Method({}),
    OURS: Method({"influence": 1}),
    "l2": Method({"regression": 1}),
    "lwf": Method({"distilled": 1}),
    "bct-kd": Method({"influence_kd": 1}),
    "lce": Method({"synthesised": 1, "boundary": 1}),
    "bct, 32 more dims": Method({"influence": 1}, extra_dims=32),
}


@dataclass(frozen=True)
class Chain:
    """One data set, decoded once, and the runs over it."""

    name: str
    config: FamilyConfig

    @property
    def runs(self) -> Path:
        return cache_folder() / "runs" / f"upgrade-{self.name}"

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.config.data.path)

    @cached_property
    def _digest(self) -> str:
        return self.dataset.digest

    @cached_property
    def _train(self) -> Decoded:
        return self._decoded(self.dataset.of("train"), "train")

    def _decoded(self, images: Sequence[LabelledImage], what: str) -> Decoded:
        """Kept beside the runs, so that going on costs no decoding: (N, S, S, 3) uint8."""
        path = self.runs / f"{what}-{self._digest[:16]}.npy"
        if not path.exists():
            pixels = decode_all(images, self.config.cloud.preprocess, title=f"decode {what}").pixels
            buffer = io.BytesIO()
            np.save(buffer, pixels, allow_pickle=False)
            write_atomic(path, buffer.getvalue())
        return Decoded(tuple(images), np.load(path, allow_pickle=False))

    @cached_property
    def queries(self) -> tuple[LabelledImage, ...]:
        return self.dataset.of("test", "query")

    @cached_property
    def gallery(self) -> tuple[LabelledImage, ...]:
        images = self.dataset.of("test", "gallery")
        return tuple(i for i in images if i.columns.get("view", "").startswith(VIEW[self.name]))

    @property
    def classes(self) -> list[str]:
        """(Q,) what intervals resample whole."""
        return [image.label for image in self.queries]

    def seen_by(self, version: int) -> Decoded:
        """The training images of the first classes in one drawn order, all roles."""
        every = self._train.classes
        order = np.random.default_rng(self.config.seed).permutation(len(every))
        count = round(SHARES[version - 1] * len(every))
        chosen = {every[i] for i in order[:count]}
        rows = [row for row, image in enumerate(self._train.images) if image.label in chosen]
        return Decoded(tuple(self._train.images[r] for r in rows), self._train.pixels[rows])

    def dim(self, method: str, version: int) -> int:
        return self.config.dim + (version - 1) * METHODS[method].extra_dims

    def folder(self, method: str, version: int) -> RunFolder:
        """The first version is the same for all methods."""
        return RunFolder(self.runs / f"{version}-{method if version > 1 else INDEPENDENT}")

    def train(self, method: str, version: int) -> None:
        """Train one version, unless it is there; the older one must be."""
        folder = self.folder(method, version)
        if folder.weights.exists():
            return
        family = self.config.model_copy(update={"dim": self.dim(method, version)})
        decoded = self.seen_by(version)
        digest = digest_of(f"{self._digest} {SHARES[version - 1]}".encode())
        if version == 1 or method == INDEPENDENT:
            train_cloud(family, decoded, data_digest=digest, folder=folder)
            return
        old = self.old_view(method, version - 1, decoded)
        upgrade = METHODS[method].config
        upgrade_cloud(family, upgrade, decoded, old, data_digest=digest, folder=folder)

    def old_view(self, method: str, version: int, decoded: Decoded) -> OldView:
        model, head = read_cloud(self.folder(method, version))
        seen = embed_all(model.net, model.preprocess, decoded.pixels, title="the old view")
        return OldView(seen, head, model.digest)

    def sides(self, method: str, version: int) -> tuple[Floats, Floats]:
        """(Q, D), (G, D) of one version on the unseen classes, kept beside its run."""
        folder = self.folder(method, version)
        kept = [folder.path / "queries.npy", folder.path / "gallery.npy"]
        for path, images in zip(kept, (self.queries, self.gallery), strict=True):
            if not path.exists():
                model, pixels = read_cloud(folder)[0], self._decoded(images, path.stem).pixels
                write_array(path, embed_all(model.net, model.preprocess, pixels, title="embed"))
        queries, gallery = (read_array(path) for path in kept)
        return queries, gallery

    def test(self, method: str, query: int, gallery: int) -> PerQuery:
        """M(version, version) of one method's chain: (Q,) average precisions."""
        relevant = relevance(self.classes, [image.label for image in self.gallery])
        queries, _ = self.sides(method, query)
        _, rows = self.sides(method, gallery)
        return average_precisions(queries, rows, relevant)


def judged(chain: Chain, method: str, newer: int, older: int) -> Backward:
    """One pair of a method's chain; new* of the update gain has seen the same classes."""
    return backward(
        chain.test(method, newer, older),
        chain.test(method, older, older),
        chain.test(INDEPENDENT, newer, newer),
        chain.classes,
    )


def rows_of(chain: Chain, method: str) -> Iterator[dict[str, object]]:
    """One row a pair of versions: fractions of mAP on unseen classes."""
    for newer, older in PAIRS:
        found = judged(chain, method, newer, older)
        own, free = chain.test(method, newer, newer), chain.test(INDEPENDENT, newer, newer)
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


def write_results(name: str, rows: list[dict[str, object]]) -> str:
    """Put one set's rows beside the other set's; the table."""
    kept = RESULTS / "upgrade.json"
    before = json.loads(read_bounded(kept, MAX_RESULTS_BYTES))["pairs"] if kept.exists() else []
    pairs = [row for row in before if row["set"] != name] + rows
    table = table_of(pairs)
    write_atomic(kept, canonical_json({"pairs": pairs}))
    write_atomic(RESULTS / "upgrade.md", table.encode())
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=sorted(VIEW))
    name = parser.parse_args().set
    chain = Chain(name, read_family(RECIPES / f"upgrade-{name}.toml"))
    for version in (1, 2, 3):
        chain.train(INDEPENDENT, version)
    table, rows = "", []
    for method in (OURS, *(each for each in METHODS if each != OURS)):
        for version in (2, 3):
            chain.train(method, version)
        rows += list(rows_of(chain, method))
        table = write_results(name, rows)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
