"""The fallback ladder between two models that were trained without a thought of each other.

    python -m benchmarks.ladder

The demo's cloud model and the ``vanilla`` network of the pattern table never saw each other's
coordinates: their cross-test is at chance. Each is once the foreign new model before the other's
gallery. Rungs: the adapters (fitted on the training objects), the old member's own query (dual
query before the first row is embedded again, and half way), the gallery's own model (cloud);
measured on objects that nobody trained on. Writes benchmarks/results/ladder.md and .json.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut, Sides
from benchmarks.tables import publish_table
from compat.adapter import Adapter, Kind
from compat.adapter_fit import best_kind, fit_adapter
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import RetrievalPerQuery
from compat.space import EmbeddingSpace
from registry.laddering import MIN_SHARE
from registry.stages import family_of
from registry.workspace import Workspace
from server_models.config import read_family

RECIPE = Path(__file__).parent / "recipes" / "pattern-demo.toml"
DEMO = Path(__file__).parent.parent / "registry" / "demo.toml"
KINDS: tuple[Kind, ...] = ("orthogonal", "affine", "residual")
NEW, OLD = "a" * 64, "b" * 64  # stand for the artifacts: nothing is published here


@dataclass(frozen=True)
class Pair:
    """A foreign new model before an old gallery."""

    new: str
    old: str
    test: HeldOut
    new_test: Sides
    old_test: Sides
    old_member: Floats  # (Q, D) queries of what searched the gallery before
    new_train: Floats
    old_train: Floats

    def row(self, rung: str, found: RetrievalPerQuery, **more: object) -> dict[str, object]:
        value = self.test.mean(found.average_precision)
        return {
            "query": self.new,
            "gallery of": self.old,
            "rung": rung,
            "mAP": value.value,
            "ci95": f"{value.low:.3f} to {value.high:.3f}",
            "hit_rate@10": self.test.mean(found.hit_rate_at_10).value,
            "holds": value.value >= MIN_SHARE * self.before.value,
            **{"expected error": None, "true error": None, "KiB": None, **more},
        }

    @property
    def before(self) -> Estimate:
        """M(old member, old): what was found before the new model came."""
        found = self.test.test(self.old_member, self.old_test.gallery)
        return self.test.mean(found.average_precision)


def rows_of(pair: Pair) -> list[dict[str, object]]:
    """One row a rung, the best kind of adapter marked."""
    test, old = pair.test, pair.old_test
    best = best_kind(pair.new_train, pair.old_train)
    rows = [pair.row("none: compared as they are", test.test(pair.new_test.queries, old.gallery))]
    for kind in KINDS:
        adapter = _fitted(kind, pair.new_train, pair.old_train)
        mapped = adapter.apply(pair.new_test.queries, artifact_digest=NEW)
        rows.append(
            pair.row(
                f"adapter new -> old, {kind}{' (chosen)' if kind == best else ''}",
                test.test(mapped, old.gallery),
                **{
                    "expected error": float(adapter.expected_error(pair.new_test.queries).mean()),
                    "true error": float(1 - np.einsum("nd,nd->n", mapped, old.queries).mean()),
                    "KiB": round(len(adapter.to_bytes()) / 1024),
                },
            )
        )
    kind = best_kind(pair.old_train, pair.new_train)
    forward = _fitted(kind, pair.old_train, pair.new_train)
    rows_mapped = forward.apply(old.gallery, artifact_digest=NEW)
    doubt = forward.expected_error(old.gallery)
    true = 1 - np.einsum("nd,nd->n", rows_mapped, pair.new_test.gallery)
    rows.append(
        pair.row(
            f"rows mapped old -> new, {kind} (doubt against truth: r = "
            f"{np.corrcoef(doubt, true)[0, 1]:.2f})",
            test.test(pair.new_test.queries, rows_mapped),
            **{"expected error": float(doubt.mean()), "true error": float(true.mean())},
        )
    )
    rows.append(
        pair.row("dual, no row done: the old member", test.test(pair.old_member, old.gallery))
    )
    rows.append(pair.row("dual, half of the rows done", _dual(pair)))
    rows.append(pair.row("cloud: the gallery's own model", test.test(old.queries, old.gallery)))
    rows.append(pair.row("backfilled: all rows by the new model",
                         test.test(pair.new_test.queries, pair.new_test.gallery)))  # fmt: skip
    return rows


def _dual(pair: Pair) -> RetrievalPerQuery:
    """Old queries search the rows that are left, new queries those that are done.

    Scores are set side by side by the mean and spread of each query model's own scores, which is
    written as one vector: old and new coordinates, each row zero in the other's part.
    """
    done = np.random.default_rng(0).permutation(len(pair.old_test.gallery))
    done = done[: len(done) // 2]
    is_done = np.zeros(len(pair.old_test.gallery), dtype=bool)
    is_done[done] = True
    old = pair.old_test.gallery * ~is_done[:, None]
    new = pair.new_test.gallery * is_done[:, None]
    gallery = np.concatenate([old, new, ~is_done[:, None], is_done[:, None]], axis=1)
    parts, offsets = [], []
    for queries, rows in (
        (pair.old_member, pair.old_test.gallery),
        (pair.new_test.queries, pair.new_test.gallery),
    ):
        scores = queries @ rows.T
        spread = float(scores.std())
        parts.append(queries / spread)
        offsets.append(np.full((len(queries), 1), -float(scores.mean()) / spread))
    query = np.concatenate([*parts, *offsets], axis=1)  # its rows' length changes no rank
    norms = np.linalg.norm(gallery, axis=1)
    assert np.allclose(norms, norms[0])  # nor does that of the gallery's
    return pair.test.test(query.astype(np.float32), gallery.astype(np.float32))


def _fitted(kind: Kind, source: Floats, target: Floats) -> Adapter:
    spaces = [EmbeddingSpace(family="furniture", generation=g, dim=d)
              for g, d in ((1, target.shape[1]), (2, source.shape[1]))]  # fmt: skip
    return fit_adapter(
        kind, source, target,
        source=spaces[1], source_digests=[NEW], target=spaces[0], target_digest=OLD,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="demo", help="folder of the trained models, in the cache")
    workspace = Workspace(cache_folder() / "runs" / parser.parse_args().run)
    family = family_of(read_family(RECIPE), workspace)
    test, train = HeldOut(family), HeldOut(family, split="train")
    vanilla = next(each for each in family.config.members if each.name == "vanilla")
    images = family.dataset.of("train")
    order = np.argsort([image.label for image in images], kind="stable")  # classes stay together
    place = {image.name: row for row, image in enumerate((*train.queries, *train.gallery))}
    embedded = train.member(vanilla)
    both = np.concatenate([embedded.queries, embedded.gallery])
    trained = {
        "cloud": family.anchors(),  # of the training images, in their order
        "vanilla": both[[place[image.name] for image in images]],
    }
    tested = {"cloud": test.cloud, "vanilla": test.member(vanilla)}
    small = HeldOut(family_of(read_family(DEMO), workspace))
    edge_m = next(each for each in small.family.config.members if each.name == "edge-m")
    before = {"vanilla": tested["vanilla"].queries, "cloud": small.member(edge_m).queries}
    rows: list[dict[str, object]] = []
    for new, old in (("cloud", "vanilla"), ("vanilla", "cloud")):
        rows += rows_of(
            Pair(
                new=new,
                old=old,
                test=test,
                new_test=tested[new],
                old_test=tested[old],
                old_member=before[old],
                new_train=trained[new][order],
                old_train=trained[old][order],
            )
        )
    notes = (
        f"mAP with 95% intervals (objects resampled) on {len(test.queries)} queries and "
        f"{len(test.gallery)} gallery images of objects that nobody trained on; adapters fitted on "
        f"{len(images)} images of the training objects. A rung holds when it finds {MIN_SHARE:.0%} "
        "of what the old member found before: edge-m in the cloud's gallery, vanilla in its own. "
        "Error is 1 - cosine.",
    )
    publish_table("ladder", "The fallback ladder", rows, notes=notes)


if __name__ == "__main__":
    main()
