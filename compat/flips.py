"""Negative flips: queries that were answered right before and are answered wrong now.

NFR = mean of 1[new wrong and old right] over the counted queries; relative NFR = NFR / ((1 - error
of old) * error of new), which is 1.0 for two models that err independently (Yan et al., CVPR 2021,
arXiv:2011.09161). Right = a relevant item at rank 1.
"""

from dataclasses import dataclass

import numpy as np

from compat.errors import UsageError
from compat.retrieval import PerQuery


@dataclass(frozen=True)
class FlipCounts:
    """How two models differ on the same queries."""

    negative: int  # old right, new wrong
    positive: int  # old wrong, new right
    negative_per_query: PerQuery  # (Q,) 0 or 1, NaN where the query is lone
    relative_nfr: float | None  # None where it is 0 / 0: old never right, or new never wrong


def count_flips(old: PerQuery, new: PerQuery) -> FlipCounts:
    """Compare hit_rate@1 per query of the old and the new model: (Q,), (Q,) of 0, 1 or NaN (lone).

    Raises:
        UsageError: they are not of the same queries, or not 0 / 1. Remedy: same query and gallery
            labels on both sides, and hit rates, not average precisions.
    """
    if old.shape != new.shape or not np.array_equal(np.isnan(old), np.isnan(new)):
        raise UsageError("flips need the same queries, and the same lone ones, on both sides")
    counted = ~np.isnan(old)
    was_right, is_right = old[counted] == 1, new[counted] == 1
    if not np.isin(np.concatenate([old[counted], new[counted]]), (0, 1)).all():
        raise UsageError("flips are counted over answers that are right (1) or wrong (0)")
    flipped = was_right & ~is_right
    negative = int(flipped.sum())
    per_query = np.full(len(old), np.nan)
    per_query[counted] = flipped
    independent = int(was_right.sum()) * int((~is_right).sum())  # times 1 / counted^2
    return FlipCounts(
        negative=negative,
        positive=int((~was_right & is_right).sum()),
        negative_per_query=per_query,
        relative_nfr=negative * int(counted.sum()) / independent if independent else None,
    )
