"""What compatibility costs and buys: the rule, amortised cost, update gain, average compatibility.

Accuracies are fractions in [0, 1], query first: M(a, b) has queries of a and a gallery of b.
"""

import numpy as np
import numpy.typing as npt

from compat.errors import UsageError


def is_compatible(*, cross_test: float, self_test: float) -> bool:
    """The compatibility rule: cross-test above self-test; equality fails, and so does NaN.

    Heterogeneous search: M(q, g) > M(q, q) (Duggal et al., CVPR 2021, arXiv:2105.06047). Upgrade:
    M(new, old) > M(old, old) (Shen et al., CVPR 2020, arXiv:2003.11942).
    """
    return cross_test > self_test


def amortised_cost(*, gallery_macs: float, query_macs: float, queries_per_item: float) -> float:
    """MACs per embedded image, (c_g + r c_q) / (1 + r), r = queries per gallery item (2105.06047).

    Raises:
        UsageError: a negative number.
    """
    if min(gallery_macs, query_macs, queries_per_item) < 0:
        raise UsageError("costs and queries per gallery item cannot be negative")
    return (gallery_macs + queries_per_item * query_macs) / (1 + queries_per_item)


def update_gain(*, cross_test: float, old_self_test: float, backfilled: float) -> float | None:
    """Share of an upgrade's gain that is had without a backfill (arXiv:2003.11942, section 3.1).

    [M(new, old) - M(old, old)] / [M(new*, new*) - M(old, old)], new* trained without constraint and
    the gallery backfilled. None where it is not defined: the rule fails, or the backfilled model is
    no better than the old one.
    """
    if not is_compatible(cross_test=cross_test, self_test=old_self_test):
        return None
    if not backfilled > old_self_test:
        return None
    return (cross_test - old_self_test) / (backfilled - old_self_test)


def average_compatibility(accuracy: npt.NDArray[np.float64]) -> float:
    """Share of the pairs of a chain of T models that follow the rule, in [0, 1].

    (T, T) with row i the query model and column j the gallery model, oldest first; pair (i, j),
    i > j, follows it when M(i, j) > M(j, j). Only the diagonal and what is below it is read.

    Raises:
        UsageError: not a square of at least two models.
    """
    steps = len(accuracy)
    if accuracy.shape != (steps, steps) or steps < 2:
        raise UsageError(f"need (T, T) with T >= 2 models, got shape {accuracy.shape}")
    newer, older = np.tril_indices(steps, k=-1)
    return float(np.mean(accuracy[newer, older] > accuracy[older, older]))
