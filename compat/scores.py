"""Who is relevant to whom, and cosine scores in blocks: millions of pairs in bounded memory.

**The tie policy of every measure.** Two scores within `TIE` of each other are equal: float32 sums
differ by about 1e-7 with the place of an item in the matrix, so a finer comparison would rank by
memory layout. Ties count against the model: irrelevant items that tie with a relevant one rank
before it, an item is in a top k only if it is there however ties are broken, and a pair is accepted
only above a threshold. So a collapsed embedding, where everything ties, scores as the worst model
and not as a good one, and no order of items changes a number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compat.embedding import check_embeddings, unit_rows
from compat.errors import UsageError
from compat.preprocess import Floats

TIE = np.float32(1e-6)  # of cosine
BLOCK_BYTES = 128 * 2**20  # of scores held at once
Ints = npt.NDArray[np.int64]
Keys = Sequence[str] | Sequence[int] | npt.NDArray[Any]


@dataclass(frozen=True)
class Matches:
    """For each of Q queries the gallery rows with its key, in O(Q + G) memory."""

    group: Ints  # (Q,) which group a query belongs to
    rows: Ints  # (G,) gallery rows, group after group
    starts: Ints  # (groups + 1,) where each group starts in `rows`

    def of(self, query: int) -> Ints:
        """(R,) gallery rows that match one query, ascending."""
        group = self.group[query]
        return self.rows[self.starts[group] : self.starts[group + 1]]

    @property
    def counts(self) -> Ints:
        """(Q,) how many gallery rows match each query."""
        sizes: Ints = np.diff(self.starts)[self.group]
        return sizes


def match(query_keys: Keys, gallery_keys: Keys) -> Matches:
    """Match (Q,) keys with (G,) keys by equality.

    Raises:
        UsageError: one side's keys are text and the other's are not. Remedy: use one type.
    """
    query, gallery = np.asarray(query_keys), np.asarray(gallery_keys)
    if query.ndim != 1 or gallery.ndim != 1:
        raise UsageError(f"keys must be (N,), got shapes {query.shape} and {gallery.shape}")
    if query.size and gallery.size and (query.dtype.kind == "U") != (gallery.dtype.kind == "U"):
        raise UsageError(f"keys differ in type: queries {query.dtype}, gallery {gallery.dtype}")
    distinct, codes = np.unique(np.concatenate([query, gallery]), return_inverse=True)
    group, gallery_group = np.split(codes.astype(np.int64), [len(query)])
    sizes = np.bincount(gallery_group, minlength=len(distinct))
    return Matches(
        group=group,
        rows=np.argsort(gallery_group, kind="stable"),
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )


@dataclass(frozen=True)
class Relevance:
    """Which gallery items answer which query, and which are the query's own image."""

    relevant: Matches
    same: Matches | None  # taken out of the gallery for that query; None: no image is on both sides

    def of(self, query: int) -> Ints:
        """(R,) relevant gallery rows of one query, its own image taken out."""
        rows = self.relevant.of(query)
        return rows if self.same is None else np.setdiff1d(rows, self.same.of(query))


def relevance(
    query_labels: Keys,
    gallery_labels: Keys,
    *,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
) -> Relevance:
    """Items of a query's label are relevant to it, except the very same image.

    Args:
        query_labels, gallery_labels: (Q,), (G,).
        query_ids, gallery_ids: what identifies an image, e.g. its digest. Needed when the query
            set and the gallery set overlap; leave both out when they do not.

    Raises:
        UsageError: labels and ids do not correspond. Remedy: give one id for each label.
    """
    relevant = match(query_labels, gallery_labels)
    if query_ids is None or gallery_ids is None:
        if query_ids is not gallery_ids:
            raise UsageError("ids are needed on both sides or on neither")
        return Relevance(relevant, None)
    if len(query_ids) != len(query_labels) or len(gallery_ids) != len(gallery_labels):
        raise UsageError("there must be one id for each label")
    same = match(query_ids, gallery_ids)
    return Relevance(relevant, same if same.counts.any() else None)


def check_corresponds(query: Floats, gallery: Floats, relevance: Relevance) -> None:
    """Refuse labels of another set: (Q, D) and (G, D) against the Q and G that were labelled."""
    labelled = (len(relevance.relevant.group), len(relevance.relevant.rows))
    if labelled != (len(query), len(gallery)):
        raise UsageError(
            f"{labelled[0]} query and {labelled[1]} gallery labels do not correspond to "
            f"{len(query)} query and {len(gallery)} gallery embeddings"
        )


def score_blocks(
    query: Floats,
    gallery: Floats,
    *,
    same: Matches | None = None,
    queries: Ints | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[Ints, Floats]]:
    """Cosine, higher is closer: (Q, D), (G, D) -> blocks of (B,) query rows, (B, G) float32.

    The block's memory is used again for the next: overwrite it at will, do not keep it.

    Args:
        same: each query's own images, which score -inf.
        queries: (n,) the rows of ``query`` that are wanted; all when left out.
        block_bytes: of scores held at once, at least one row.

    Raises:
        UsageError: embeddings that have no cosine, see `compat.embedding.check_embeddings`.
    """
    check_embeddings(query=query, gallery=gallery)
    query, gallery = unit_rows(query, "query"), unit_rows(gallery, "gallery")
    wanted = np.arange(len(query)) if queries is None else queries
    size = max(1, min(len(wanted), block_bytes // (4 * max(1, len(gallery)))))
    scores = np.empty((size, len(gallery)), dtype=np.float32)  # (B, G)
    for start in range(0, len(wanted), size):
        rows = wanted[start : start + size]
        block = scores[: len(rows)]
        np.matmul(query[rows], gallery.T, out=block)
        if same is not None:
            for place, row in enumerate(rows):
                block[place, same.of(row)] = -np.inf
        yield rows, block
