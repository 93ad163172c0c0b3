"""The upgrade table: what keeps a new cloud model compatible with the old ones, at equal budget.

    python -m benchmarks.upgrade objects820   # minutes of one core; goes on where it stopped
    python -m benchmarks.upgrade emoji

A chain of three versions: the first sees a quarter of the training classes, the second half of
them, the third all. Version 2 is trained against version 1 and version 3 against version 2, by each
method, all with the same steps from the same starter weights; version 3 never sees version 1.
Measured on unseen classes: criterion, update gain against the model trained without constraint, and
the tax on the self-test. Results go to benchmarks/results/upgrade.md and upgrade.json as they come.

The models are kin-s at 64 px whose trunk is frozen: its pooled features are computed once, and what
follows it learns on them. That makes a run a matter of seconds, and the losses are the product's.
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
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.data.cache import cache_folder, write_atomic
from compat.arrays import read_array, write_array
from compat.backward import Backward, average_precisions, backward
from compat.dataset import Dataset, LabelledImage, read_dataset
from compat.embedding import unit_rows
from compat.files import read_bounded
from compat.losses.margin import margin_loss
from compat.preprocess import Floats, Preprocess
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from compat.scores import Relevance, relevance
from compat.statistics import paired_difference_interval
from compat.terminal import STDERR
from compat.wire import canonical_json
from server_models.checkpoint import load_weights, save_weights
from server_models.config import CloudConfig, LossTerm, Schedule, TermName, UpgradeConfig
from server_models.edge_net import SPECS, EdgeNet
from server_models.loop import batch_rows, rate_at
from server_models.pixels import Decoded, decode_all
from server_models.starters import load_starter
from server_models.upgrade_cloud import OldView, upgrade_losses

RESULTS = Path(__file__).parent / "results"
MAX_RESULTS_BYTES = 2**24


@dataclass(frozen=True)
class Source:
    """A manifest in the cache, and which views are searched, and searched with."""

    manifest: str
    queries: tuple[str, ...] = ("",)  # what a view begins with
    gallery: tuple[str, ...] = ("",)


SETS = {
    "objects820": Source(
        "objects820/128px/manifest.csv", ("wild-00", "wild-02", "wild-04", "wild-06"), ("studio",)
    ),
    "emoji": Source("emoji/64px/manifest.csv"),
}
SHARES = (0.25, 0.5, 1.0)  # of the training classes
PAIRS = ((2, 1), (3, 2), (3, 1))  # newer, older
SEED, DIM, FEATURE_BATCH = 0, 128, 64
CLOUD = CloudConfig(
    backbone="kin-s",
    preprocess=Preprocess(size_px=64),
    scale=16,
    margin=0.15,
    schedule=Schedule(steps=200, batch=128, learning_rate=3e-3),
)


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
    OURS: Method({"influence": 1}),
    INDEPENDENT: Method({}),
    "l2": Method({"regression": 1}),
    "l2, weight 10": Method({"regression": 10}),
    "lwf": Method({"distilled": 1}),
    "bct-kd": Method({"influence_kd": 1}),
    "lce": Method({"synthesised": 1, "boundary": 1}),
    "bct, 32 more dims": Method({"influence": 1}, extra_dims=32),
}


class Trained(nn.Module):
    """What learns of a kin-s, and its classifier: (N, F) pooled features -> (N, D)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        net = EdgeNet(SPECS["kin-s"], dim)
        load_starter("kin-s", net)
        self.widen, self.embed = net.widen, net.embed
        self.head = nn.Parameter(torch.randn(classes, dim))

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.widen(features))
        return embedding


@dataclass(frozen=True)
class Chain:
    """One data set by its features, and the runs over it."""

    name: str

    @property
    def runs(self) -> Path:
        return cache_folder() / "runs" / f"upgrade-{self.name}"

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
        images = self.dataset.of("test", role)
        return tuple(i for i in images if i.columns.get("view", "").startswith(views))

    @property
    def classes(self) -> list[str]:
        """(Q,) what intervals resample whole."""
        return [image.label for image in self.queries]

    @cached_property
    def _relevance(self) -> Relevance:
        return relevance(self.classes, [image.label for image in self.gallery])

    def features(self, what: str, images: tuple[LabelledImage, ...]) -> Floats:
        """(N, F) pooled by the frozen trunk, kept beside the runs."""
        path = self.runs / f"{what}.npy"
        if not path.exists():
            pixels = decode_all(images, CLOUD.preprocess, title=f"decode {what}").pixels
            net = EdgeNet(SPECS["kin-s"], DIM)
            load_starter("kin-s", net)
            net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            rows = []
            for start in range(0, len(pixels), FEATURE_BATCH):
                batch = CLOUD.preprocess.normalised(pixels[start : start + FEATURE_BATCH])
                with torch.inference_mode():
                    pooled = net.pool(net.trunk(torch.from_numpy(batch).permute(0, 3, 1, 2)))
                rows.append(pooled.flatten(1).numpy())
            write_array(path, np.concatenate(rows))
        return read_array(path)

    def seen_by(self, version: int) -> tuple[Decoded, Tensor]:
        """The images, without pixels, and features of the first classes in one drawn order."""
        images = self.dataset.of("train")
        features = self.features("train", images)
        every = sorted({image.label for image in images})
        order = np.random.default_rng(SEED).permutation(len(every))
        chosen = {every[i] for i in order[: round(SHARES[version - 1] * len(every))]}
        rows = [row for row, image in enumerate(images) if image.label in chosen]
        blank = np.zeros((len(rows), 0, 0, 3), np.uint8)
        return Decoded(tuple(images[r] for r in rows), blank), torch.from_numpy(features[rows])

    def model(self, method: str, version: int) -> tuple[Trained, tuple[str, ...]]:
        """A trained version and its classes; the first is the same for all methods."""
        decoded, features = self.seen_by(version)
        first = version == 1
        torch.manual_seed(SEED)
        dim = DIM + (version - 1) * METHODS[method].extra_dims
        model = Trained(len(decoded.classes), dim)
        path = self._folder(method, version) / "weights.safetensors"
        if path.exists():
            load_weights(path, model)
        else:
            old = (
                None if first or method == INDEPENDENT else self._view(method, version - 1, version)
            )
            train(model, decoded, features, METHODS[method].config if old else None, old)
            save_weights(path, model, {})
        return model.eval(), decoded.classes

    def _folder(self, method: str, version: int) -> Path:
        return self.runs / f"{version} {method if version > 1 else INDEPENDENT}"

    def _view(self, method: str, version: int, newer: int) -> OldView:
        """What a version says of the images that the newer one learns on."""
        model, classes = self.model(method, version)
        seen = embedded(model, self.seen_by(newer)[1])
        return OldView(seen, dict(zip(classes, model.head.detach().numpy(), strict=True)), "")

    def sides(self, method: str, version: int) -> tuple[Floats, Floats]:
        """(Q, D), (G, D) of one version on the unseen classes."""
        model, _ = self.model(method, version)
        sides = (("queries", self.queries), ("gallery", self.gallery))
        queries, gallery = (
            embedded(model, torch.from_numpy(self.features(what, images))) for what, images in sides
        )
        return queries, gallery

    def test(self, method: str, query: int, gallery: int) -> PerQuery:
        """M(version, version) of one method's chain: (Q,) average precisions."""
        path = self._folder(method, query) / f"on {gallery}.npy"
        if not path.exists():
            queries, rows = self.sides(method, query)[0], self.sides(method, gallery)[1]
            found = average_precisions(queries, rows, self._relevance)
            write_array(path, found[:, None].astype(np.float32))
        return read_array(path)[:, 0].astype(np.float64)


def train(
    model: Trained,
    decoded: Decoded,
    features: Tensor,
    upgrade: UpgradeConfig | None,
    old: OldView | None,
) -> None:
    """The recipes of `train_cloud` and `upgrade_cloud`, on features instead of images."""
    schedule = CLOUD.schedule
    targets = torch.from_numpy(decoded.targets())
    gallery = old.gallery(decoded, CLOUD.scale) if old else None
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=schedule.weight_decay)
    for step in range(schedule.steps):
        rows = batch_rows(SEED, step, schedule.batch, len(features))  # (B,)
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate_at(step, schedule.steps)
        embeddings = model(features[rows])
        if gallery is None or upgrade is None:
            loss = margin_loss(
                embeddings, targets[rows], model.head, scale=CLOUD.scale, margin=CLOUD.margin
            ).mean()
        else:
            seen = gallery.embeddings[rows]
            terms = upgrade_losses(
                embeddings, targets[rows], model.head, CLOUD, upgrade, gallery, seen
            )
            loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def embedded(model: Trained, features: Tensor) -> Floats:
    """(N, F) -> (N, D), rows of L2 norm 1."""
    with torch.inference_mode():
        return unit_rows(F.normalize(model(features)).numpy(), "embeddings")


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
    parser.add_argument("set", choices=sorted(SETS))
    chain = Chain(parser.parse_args().set)
    rows: list[dict[str, object]] = []
    for method in METHODS:
        rows += rows_of(chain, method)
        table = write_results(chain.name, rows)
        STDERR.print(f"{method}: measured")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
