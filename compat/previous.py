"""Who gets worse by an update: answers of the previous release against those of this one.

Both answer the same held-out queries, each in the gallery that it is released with. A negative flip
at k is a query whose first k held a relevant item before and hold none now; rates as in
`compat.flips` (arXiv:2011.09161). Rules read them as ``previous.flips@1.negative_flip_rate``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from compat.flips import count_flips
from compat.manifest import Digest
from compat.overlap import TopItems
from compat.report_parts import Estimate, Part
from compat.retrieval import PerQuery, RetrievalPerQuery
from compat.statistics import mean_interval

EXAMPLES, HITS = 6, 3


class UpdateFlips(Part):
    """One measure of being right, before and now, on the same queries."""

    flips: int  # right before, wrong now
    positive_flips: int  # wrong before, right now
    negative_flip_rate: Estimate  # flips / all counted queries
    relative_nfr: float | None  # NFR / ((1 - error before) * error now); None if 0 / 0
    error_before: float
    error_now: float


class UpdateExample(Part):
    """One negative flip at 1: rows of the split's queries and gallery."""

    query: int
    before: tuple[int, ...]  # the best three of the previous release, best first
    now: tuple[int, ...]


class PreviousEvidence(Part):
    """One artifact against the same member's, runtime's and precision's of the last release."""

    digest: Digest  # of the previous artifact
    flips_at_1: UpdateFlips = Field(alias="flips@1")
    flips_at_10: UpdateFlips = Field(alias="flips@10")
    examples: tuple[UpdateExample, ...] = ()  # drawn evenly from all flips at 1


@dataclass(frozen=True)
class Answers:
    """What one artifact of a release finds for each query, in the gallery of that release."""

    digest: str
    retrieval: RetrievalPerQuery
    top: TopItems


def update_flips(before: PerQuery, now: PerQuery, classes: Sequence[str] | None) -> UpdateFlips:
    """From hit rates per query, (Q,) of 0, 1 or NaN where lone; ``classes`` are resampled whole.

    Raises:
        UsageError: they are not of the same queries. DataError: too few to bear an interval.
    """
    counts = count_flips(before, now)
    return UpdateFlips(
        flips=counts.negative,
        positive_flips=counts.positive,
        negative_flip_rate=mean_interval(counts.negative_per_query, classes),
        relative_nfr=counts.relative_nfr,
        error_before=float(np.nanmean(1 - before)),
        error_now=float(np.nanmean(1 - now)),
    )


def against_previous(before: Answers, now: Answers, classes: Sequence[str]) -> PreviousEvidence:
    """``classes``: (Q,) label of each query."""
    was, is_now = before.retrieval, now.retrieval
    lost = np.flatnonzero(
        count_flips(was.hit_rate_at_1, is_now.hit_rate_at_1).negative_per_query == 1
    )
    chosen = lost[np.linspace(0, len(lost) - 1, min(len(lost), EXAMPLES)).astype(int)]
    return PreviousEvidence.model_validate(
        {
            "digest": before.digest,
            "flips@1": update_flips(was.hit_rate_at_1, is_now.hit_rate_at_1, classes),
            "flips@10": update_flips(was.hit_rate_at_10, is_now.hit_rate_at_10, classes),
            "examples": tuple(
                UpdateExample(query=row, before=_best(before.top, row), now=_best(now.top, row))
                for row in map(int, chosen)
            ),
        }
    )


def _best(top: TopItems, query: int) -> tuple[int, ...]:
    return tuple(int(row) for row in top.rows[query, :HITS] if row >= 0)
