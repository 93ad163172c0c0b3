"""How alike two models rank the same gallery, without labels: overlap@k and rank-biased overlap.

An item is in a model's top k only if it is there however ties are broken (`compat.scores`), so two
rankings full of ties are not alike, and a ranking overlaps itself by less than 1 where a tie
straddles rank k.
"""

from dataclasses import dataclass

import numpy as np

from compat.errors import UsageError
from compat.preprocess import Floats
from compat.retrieval import PerQuery
from compat.scores import BLOCK_BYTES, TIE, Ints, Matches, score_blocks

CHUNK = 64  # scores whose maximum stands for them


@dataclass(frozen=True)
class TopItems:
    """The k best gallery rows of each query, best first, each with its worst possible rank."""

    rows: Ints  # (Q, K) gallery rows, K = min(k, items); -1 = no item
    ranks: Ints  # (Q, K) from 1; larger than k where ties may push the item out
    k: int
    available: Ints  # (Q,) gallery items that could be found: G less the query's own image


def top_items(
    query: Floats,
    gallery: Floats,
    k: int,
    *,
    same: Matches | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> TopItems:
    """The k best gallery rows of each query: (Q, D), (G, D) of one space.

    Raises:
        UsageError: k < 1, or embeddings that have no cosine.
    """
    top = no_top_items(len(query), len(gallery), k, same)
    if len(gallery):
        for numbers, scores in score_blocks(query, gallery, same=same, block_bytes=block_bytes):
            read_top_items(top, numbers, scores)
    return top


def no_top_items(queries: int, items: int, k: int, same: Matches | None) -> TopItems:
    """Room for the k best of each query, to be filled by `read_top_items`.

    Raises:
        UsageError: k < 1.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    kept = min(k, items)
    own = same.counts if same is not None else np.zeros(queries, dtype=np.int64)
    return TopItems(
        rows=np.full((queries, kept), -1, dtype=np.int64),
        ranks=np.full((queries, kept), items + 1, dtype=np.int64),
        k=k,
        available=items - own,
    )


def read_top_items(top: TopItems, numbers: Ints, scores: Floats) -> None:
    """Fill in the queries (B,) of one block of scores (B, G), which stays as it is."""
    kept = top.rows.shape[1]
    floors = _floors(scores, kept + 1)  # the (k+1)-th best decides who is safe
    for number, row, floor in zip(numbers, scores, floors, strict=True):
        near = np.flatnonzero((row >= floor) & (row > -np.inf))
        near = near[np.argsort(-row[near], kind="stable")][: kept + 1]
        best = row[near][:kept]
        top.rows[number, : len(best)] = near[:kept]
        # how many of the k+1 best score at least as much: its rank if it loses every tie
        top.ranks[number, : len(best)] = np.searchsorted(-row[near], TIE - best, side="right")


def _floors(scores: Floats, n: int) -> Floats:
    """At most the n-th best score of each row: (B, G) -> (B,), by the n-th best of chunk maxima.

    n chunks hold a maximum that is at least the n-th best maximum, so n items reach it; reading
    maxima is far quicker than partitioning the row.
    """
    starts = np.arange(0, scores.shape[1], CHUNK)
    if len(starts) < n:
        lowest: Floats = scores.min(axis=1)
        return lowest
    maxima = np.maximum.reduceat(scores, starts, axis=1)  # (B, chunks)
    floors: Floats = np.partition(maxima, len(starts) - n, axis=1)[:, len(starts) - n]
    return floors


def overlap_at_k(a: TopItems, b: TopItems) -> PerQuery:
    """Share of the top k of ``a`` that is in the top k of ``b``: (Q,), each in [0, 1].

    NaN where a query has no gallery item at all. Symmetric.

    Raises:
        UsageError: the two do not speak of the same queries, gallery and k.
    """
    common = _shared_depths(a, b) <= a.k  # (Q, K)
    size = np.minimum(a.k, a.available).astype(np.float64)
    with np.errstate(invalid="ignore"):
        share: PerQuery = common.sum(axis=1) / size
    return share


def rank_biased_overlap(a: TopItems, b: TopItems, *, persistence: float = 0.9) -> PerQuery:
    """Overlap at depths 1 to k, the first ones weighing most: (Q,), each in [0, 1].

    The extrapolated form of Webber, Moffat and Zobel (TOIS 28(4), 2010, equation 32): agreement at
    depth k is taken to hold beyond it. At persistence 0.9 the top ten carry 86% of the weight.

    Raises:
        UsageError: persistence is not within (0, 1), or see `overlap_at_k`.
    """
    if not 0 < persistence < 1:
        raise UsageError(f"persistence must lie between 0 and 1, got {persistence}")
    depths = _shared_depths(a, b)
    agreement = np.empty((len(depths), a.k))  # (Q, k)
    for depth in range(1, a.k + 1):
        size = np.minimum(depth, a.available)
        with np.errstate(invalid="ignore"):
            agreement[:, depth - 1] = (depths <= depth).sum(axis=1) / size
    weights = persistence ** np.arange(a.k)  # (k,) of depths 1, 2, ...
    tail = agreement[:, -1] * persistence**a.k
    extrapolated: PerQuery = (1 - persistence) * (agreement @ weights) + tail
    return extrapolated


def _shared_depths(a: TopItems, b: TopItems) -> Ints:
    """(Q, K) the depth from which each top item of ``a`` is surely in both; large = never."""
    if a.rows.shape != b.rows.shape or a.k != b.k or not np.array_equal(a.available, b.available):
        raise UsageError("the two rankings are not of the same queries, gallery and k")
    never = np.iinfo(np.int64).max
    depths = np.full(a.rows.shape, never, dtype=np.int64)
    for query, (mine, theirs) in enumerate(zip(a.rows, b.rows, strict=True)):
        _, here, there = np.intersect1d(mine, theirs, return_indices=True)
        depths[query, here] = np.maximum(a.ranks[query, here], b.ranks[query, there])
    depths[a.rows < 0] = never
    return depths
