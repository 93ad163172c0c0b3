"""Backward compatibility in numbers: criterion, update gain, average compatibility.

M(query, gallery) is the mean average precision with queries embedded by one model and the gallery
by another. A new model is compatible with an old one iff M(new, old) > M(old, old): equality fails,
as nobody gains by it (arXiv:2003.11942, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import PerQuery, retrieval_per_query
from compat.scores import Keys, Relevance
from compat.statistics import mean_interval, paired_difference_interval, ratio_interval


def average_precisions(query: Floats, gallery: Floats, relevance: Relevance) -> PerQuery:
    """M(query, gallery), query by query: (Q, D), (G, K) -> (Q,), over the dimensions of both.

    A model with more dimensions shares its first ones with the older model.
    """
    dim = min(query.shape[1], gallery.shape[1])
    return retrieval_per_query(query[:, :dim], gallery[:, :dim], relevance).average_precision


@dataclass(frozen=True)
class Backward:
    """How a new model searches the vectors of an old one."""

    cross: Estimate  # M(new, old)
    self_old: Estimate  # M(old, old)
    above: Estimate  # M(new, old) - M(old, old), paired
    update_gain: Estimate | None  # None unless the criterion holds and new* is surely better

    @property
    def criterion(self) -> bool:
        return self.above.value > 0


def backward(
    cross: PerQuery, self_old: PerQuery, unconstrained: PerQuery | None, classes: Keys
) -> Backward:
    """Judge M(new, old) by M(old, old) and M(new*, new*): (Q,) each, the same queries.

    Update gain = [M(new, old) - M(old, old)] / [M(new*, new*) - M(old, old)], new* trained without
    constraint and its gallery embedded anew: the share of the whole gain that comes at once.

    Args:
        unconstrained: M(new*, new*); None when no such model was trained.
        classes: (Q,) what intervals resample whole.
    """
    above = paired_difference_interval(cross, self_old, classes)
    gain = None
    if unconstrained is not None and above.value > 0:
        whole = paired_difference_interval(unconstrained, self_old, classes)
        if whole.low > 0:
            gain = ratio_interval(cross - self_old, unconstrained - self_old, classes)
    return Backward(mean_interval(cross, classes), mean_interval(self_old, classes), above, gain)


def average_compatibility(pairs: Sequence[Backward]) -> float:
    """Share of the (newer, older) pairs of a chain that meet the criterion, in [0, 1].

    Over all T (T - 1) / 2 pairs of T versions: arXiv:2111.07632, eq. 10.
    """
    return sum(pair.criterion for pair in pairs) / len(pairs)
