"""Retrieval measures, query first: hit_rate@k, recall@k, average precision, R-precision, AP@R.

`relevant_ranks` gives the ranks of a query's relevant items (1 = best), which is all that any of
these measures needs. Per-query results are the primitive; a mean is taken last, with its counts.
A lone query (no relevant gallery item) has no value: it is NaN here, and it is excluded and counted
in every mean, never scored 0. Ties count against the model, see `compat.scores`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compat.preprocess import Floats
from compat.scores import BLOCK_BYTES, TIE, Ints, Relevance, check_corresponds, score_blocks

PerQuery = npt.NDArray[np.float64]  # (Q,), NaN where the query is lone


def relevant_ranks(
    query: Floats, gallery: Floats, relevance: Relevance, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, Ints]]:
    """Each query that has relevant items: its row and their ranks (R,), ascending from 1.

    The j-th best relevant item has rank j + the number of irrelevant items that score at least as
    much, which a bisection gives among the sorted scores that reach the worst relevant one:
    (Q, D), (G, D) in O(Q G (D + log G)) at worst, all pairs compared, none approximated.

    Raises:
        UsageError: embeddings and labels do not correspond, or a row is zero or not finite.
    """
    check_corresponds(query, gallery, relevance)
    counted = np.flatnonzero(relevance.relevant.counts > 0)
    for rows, scores in score_blocks(
        query, gallery, same=relevance.same, queries=counted, block_bytes=block_bytes
    ):
        for row, of_row in zip(rows, scores, strict=True):
            relevant = np.sort(of_row[relevance.of(row)])
            if len(relevant):  # empty when the only one was the query's own image
                yield int(row), ranks_in_row(of_row, relevant)


def ranks_in_row(scores: Floats, relevant: Floats) -> Ints:
    """All scores of a query (G,), its relevant items' ascending (R,) -> ranks (R,), ascending."""
    contenders = scores[scores >= relevant[0] - TIE]  # nothing below can rank before
    contenders.sort()
    return _ranks(contenders, relevant)


def _ranks(ordered: Floats, relevant: Floats) -> Ints:
    """Ascending scores of all items (G,) and of the relevant ones (R,) -> ranks (R,), ascending."""
    least = relevant[::-1] - TIE  # (R,) best first; what scores this much ranks before
    before = len(ordered) - np.searchsorted(ordered, least)  # (R,) all items, relevant ones too
    relevant_before = len(relevant) - np.searchsorted(relevant, least)
    ranks: Ints = before - relevant_before + np.arange(1, len(relevant) + 1)
    return ranks


def hit_rate_at_k(ranks: Ints, k: int) -> float:
    """1 if at least one relevant item is in the top k, else 0 (CMC; often called recall@k)."""
    return float(ranks[0] <= k)


def recall_at_k(ranks: Ints, k: int) -> float:
    """Share of the relevant items that is in the top k, in [0, 1]."""
    return float(np.count_nonzero(ranks <= k) / len(ranks))


def average_precision(ranks: Ints) -> float:
    """Mean over the relevant items of the precision at their rank, over the whole gallery."""
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def r_precision(ranks: Ints) -> float:
    """Precision in the top R, R = number of relevant items."""
    return recall_at_k(ranks, len(ranks))


def average_precision_at_r(ranks: Ints) -> float:
    """Average precision cut off at rank R, missing items counting 0 (MAP@R, arXiv:2003.08505)."""
    precision = np.arange(1, len(ranks) + 1) / ranks
    return float(np.sum(precision[ranks <= len(ranks)]) / len(ranks))


@dataclass(frozen=True)
class RetrievalPerQuery:
    """M(query, gallery), query by query: (Q,) arrays in [0, 1], NaN where the query is lone."""

    hit_rate_at_1: PerQuery
    hit_rate_at_10: PerQuery
    recall_at_10: PerQuery
    average_precision: PerQuery
    r_precision: PerQuery
    average_precision_at_r: PerQuery

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """(Q,) whether the query has at least one relevant gallery item."""
        return ~np.isnan(self.average_precision)


def retrieval_per_query(
    query: Floats, gallery: Floats, relevance: Relevance, *, block_bytes: int = BLOCK_BYTES
) -> RetrievalPerQuery:
    """Every measure of every query: (Q, D), (G, D) of one space.

    Raises:
        UsageError: embeddings and labels do not correspond, or a row is zero or not finite.
    """
    values = np.full((6, len(query)), np.nan)
    for row, ranks in relevant_ranks(query, gallery, relevance, block_bytes=block_bytes):
        values[:, row] = measures_of(ranks)
    return RetrievalPerQuery(*values)


def measures_of(ranks: Ints) -> tuple[float, ...]:
    """The measures of one query, in the order of `RetrievalPerQuery`, from its (R,) ranks."""
    return (
        hit_rate_at_k(ranks, 1),
        hit_rate_at_k(ranks, 10),
        recall_at_k(ranks, 10),
        average_precision(ranks),
        r_precision(ranks),
        average_precision_at_r(ranks),
    )


@dataclass(frozen=True)
class Mean:
    """A mean over queries, and what it was counted over."""

    value: float  # NaN when nothing was counted
    counted: int
    skipped: int  # lone queries: undefined, never scored 0


def mean(values: PerQuery) -> Mean:
    """(Q,) -> mean over the queries that are counted."""
    counted = values[~np.isnan(values)]
    value = float(np.mean(counted)) if len(counted) else float("nan")
    return Mean(value, len(counted), len(values) - len(counted))
