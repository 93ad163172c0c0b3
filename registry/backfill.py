"""Embed a gallery again with a new cloud model, row by row, while it is being searched.

The state of a backfill is the gallery itself: a row is done when the new model's digest is stamped
on it. So a backfill that was stopped, or killed, goes on where it was when it is started again, and
there is no second file that could contradict the first. Each batch is one commit.

The first rows are drawn at random; what they moved says which of the others will move most, and
those come next (`compat.backfill_order`).
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from compat.backfill_order import most_changed_first
from compat.dataset import Dataset
from compat.embedding import Embedder
from compat.errors import DataError, SpaceError
from compat.preprocess import Floats
from compat.scores import Ints
from compat.space import EmbeddingSpace
from registry.gallery import Gallery, GalleryRow, Searchable, one_writer
from registry.gallery_build import embed_images, gallery_images, item_id
from registry.gallery_life import begin, replace_rows, settle

BATCH_ROWS = 256
SAMPLE_SHARE = 0.1  # drawn at random first: what they tell orders the rest
ORDERINGS = 20  # how often the order is read anew from start to end

Order = Literal["uncertainty", "random"]


@dataclass(frozen=True)
class BackfillStep:
    """Where a backfill is after a commit."""

    done: int  # rows that the new model embedded
    total: int
    version: int  # of the table
    hit_rate_at_10: float | None = None  # of the held-out queries, as the gallery is now


@dataclass(frozen=True)
class HeldOutQueries:
    """What the accuracy of a gallery half way is measured with: (Q, D) of the new model."""

    embeddings: Floats
    labels: tuple[str, ...]

    def hit_rate_at_10(self, gallery: Gallery, labels: Collection[str]) -> float | None:
        """Share of the queries that find their label among the best ten of all generations.

        Queries whose label is not among the gallery's ``labels`` are left out; None when all are.
        """
        counted = [row for row, label in enumerate(self.labels) if label in labels]
        if not counted:
            return None
        among = [Searchable(each.model_digest) for each in gallery.status.generations]
        found = gallery.search(self.embeddings[counted], 10, among=among)
        hits = [
            any(hit.label == self.labels[row] for hit in best)
            for best, row in zip(found, counted, strict=True)
        ]
        return float(np.mean(hits))


def backfill(
    folder: Path,
    dataset: Dataset,
    embedder: Embedder,
    *,
    space: EmbeddingSpace,
    model_digest: str,
    queries: HeldOutQueries | None = None,
    batch_rows: int = BATCH_ROWS,
    order: Order = "uncertainty",
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[BackfillStep], None] = lambda step: None,
) -> BackfillStep:
    """Bring every row of the gallery of ``space`` to the generation ``model_digest``.

    Args:
        folder: holds the gallery.
        dataset: has the images of all its rows.
        embedder: the new cloud artifact; of the same space.
        queries: to measure accuracy after each commit.
        batch_rows: rows a commit.
        order: which rows first; random is there to be compared with.
        stopped: asked before each batch; True ends the work with what is done.
        progress: told after each commit, and once at the start.

    Raises:
        SpaceError: the embedder, or the gallery, is of another space. Remedy: in the message.
        DataError: the image of a row is missing. Nothing was written.
        ImageError, UsageError, CorruptError: what was committed stays; repeat it, or roll back.
    """
    if embedder.dim != space.dim:
        raise SpaceError(
            f"the new model gives {embedder.dim} dimensions, space {space.id} has {space.dim}: a "
            "gallery of another space is made by kinspace gallery build"
        )
    with one_writer(folder):
        gallery = Gallery.open(folder, space.id)
        paths = _paths(gallery, dataset)
        now_rows, now, stamps = gallery.items()
        is_done = all(each == model_digest for each in stamps)  # then there is nothing to undo
        rows, old, _ = (gallery if is_done else begin(gallery, model_digest)).items()
        work = _Work(rows, old, now, np.array([each == model_digest for each in stamps]), order)
        if [row.id for row in now_rows] != [row.id for row in rows]:
            raise DataError(f"{folder} has other items than when this backfill began: roll it back")

        labels = {row.label for row in rows}

        def step() -> BackfillStep:
            accuracy = queries.hit_rate_at_10(gallery, labels) if queries else None
            return BackfillStep(work.n_done, len(rows), gallery.status.version, accuracy)

        last = step()
        progress(last)
        while work.n_done < len(rows) and not stopped():
            picked = work.next(batch_rows)
            embedded = embed_images(embedder, [paths[rows[each].id] for each in picked])
            gallery = replace_rows(
                gallery,
                [rows[each] for each in picked],
                embedded,
                space=space,
                model_digest=model_digest,
            )
            work.finish(picked, embedded)
            last = step()
            progress(last)
        if work.n_done == len(rows):
            settle(gallery)
    return last


class _Work:
    """Which rows are done, and which come next: G rows, (G, D) old and new embeddings."""

    def __init__(
        self,
        rows: Sequence[GalleryRow],
        old: Floats,
        now: Floats,
        done: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
        order: Order,
    ) -> None:
        self._old, self._now, self._done = old, now.copy(), done
        drawn = [hashlib.sha256(row.id.encode()).digest() for row in rows]  # the same each time
        self._random = np.array(sorted(range(len(rows)), key=drawn.__getitem__), dtype=np.int64)
        self._by_change = order == "uncertainty"
        self._queue: Ints = np.empty(0, dtype=np.int64)
        self._ordered_at = -1

    @property
    def n_done(self) -> int:
        return int(self._done.sum())

    def next(self, count: int) -> Ints:
        """The rows that pay most now, at most ``count``."""
        total, n_done = len(self._done), self.n_done
        sample = int(np.ceil(SAMPLE_SHARE * total))
        if not self._by_change or n_done < sample:
            rest = self._random[~self._done[self._random]]
            return rest[: count if not self._by_change else min(count, sample - n_done)]
        if self._ordered_at < 0 or n_done - self._ordered_at >= total / ORDERINGS:
            rest = self._random[~self._done[self._random]]
            first = most_changed_first(
                self._old[rest], self._old[self._done], self._now[self._done]
            )
            self._queue, self._ordered_at = rest[first], n_done
        picked, self._queue = self._queue[:count], self._queue[count:]
        return picked

    def finish(self, picked: Ints, embedded: Floats) -> None:
        self._now[picked] = embedded
        self._done[picked] = True


def _paths(gallery: Gallery, dataset: Dataset) -> Mapping[str, Path]:
    """Where the image of each gallery id lies."""
    found = {item_id(each.name): each.path for each in gallery_images(dataset)}
    rows, _, _ = gallery.items()
    if missing := [row for row in rows if row.id not in found]:
        raise DataError(
            f"{len(missing)} of {len(rows)} gallery items are no gallery image of this data set, "
            f"the first is {missing[0].path}: name the data set that the gallery was built from"
        )
    return found
