"""How sure a measured number is: intervals, tests and what a test set can resolve.

Queries of one class are photographs of the same things and err together, so intervals and tests
resample whole classes when ``clusters`` is given; by query they would be too narrow. Everything is
drawn with a fixed seed: the same values give the same interval, and two intervals over the same
classes are made of the same resamples. NaN marks a lone query: excluded and counted.

Percentile intervals, not BCa: rates of 0 or 1 have no acceleration constant, and an interval that
is sometimes missing cannot be reported. With fewer than about 20 clusters they are too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compat.errors import DataError, MissingExtraError, UsageError
from compat.report_parts import Estimate
from compat.retrieval import PerQuery
from compat.scores import Keys

try:
    from scipy import stats
except ModuleNotFoundError as error:
    raise MissingExtraError("measuring intervals", "server", "scipy") from error

LEVEL = 0.95
RESAMPLES = 2000
SEED = 20210619
BATCH_VALUES = 2**23  # drawn at once: 64 MiB of indices


@dataclass(frozen=True)
class _Clusters:
    """Per-query values as sums and counts of C clusters; their ratio is the mean over queries."""

    sums: PerQuery  # (C,)
    counts: PerQuery  # (C,) each at least 1
    skipped: int

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())


def _clustered(values: PerQuery, clusters: Keys | None) -> _Clusters:
    counted = ~np.isnan(values)
    kept = values[counted]
    if clusters is None:
        codes = np.arange(len(kept))
    else:
        if len(clusters) != len(values):
            raise UsageError(f"{len(clusters)} clusters do not correspond to {len(values)} values")
        codes = np.unique(np.asarray(clusters)[counted], return_inverse=True)[1]
    sums = np.bincount(codes, weights=kept).astype(np.float64)
    if len(sums) < 2:
        raise DataError(
            f"{len(kept)} counted queries of {len(sums)} classes bear no interval: the test set "
            "needs queries with relevant gallery items in at least two classes"
        )
    return _Clusters(sums, np.bincount(codes).astype(np.float64), len(values) - len(kept))


def mean_interval(values: PerQuery, clusters: Keys | None = None) -> Estimate:
    """Mean over the counted queries with its 95% bootstrap interval: (Q,), NaN where lone.

    Args:
        clusters: (Q,) what to resample whole, usually the class; by query when left out.

    Raises:
        DataError: fewer than two clusters are counted. Remedy: a larger test set.
    """
    parts = _clustered(values, clusters)
    result = stats.bootstrap(
        (parts.sums, parts.counts),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(parts.sums)),
        rng=np.random.default_rng(SEED),
    )
    low, high = result.confidence_interval
    counted = len(values) - parts.skipped
    return Estimate(
        value=parts.mean, low=float(low), high=float(high), counted=counted, skipped=parts.skipped
    )


def _ratio(sums: npt.NDArray[Any], counts: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    ratio: npt.NDArray[Any] = sums.sum(axis=axis) / counts.sum(axis=axis)
    return ratio


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    below = whole.sum(axis=axis)
    share: npt.NDArray[Any] = np.divide(
        part.sum(axis=axis), below, out=np.zeros_like(below), where=below != 0
    )
    return share


def paired_difference_interval(a: PerQuery, b: PerQuery, clusters: Keys | None = None) -> Estimate:
    """Mean of a - b over the same queries with its 95% interval; above 0, a is better.

    Raises:
        UsageError: the two are not of the same queries. DataError: see `mean_interval`.
    """
    return mean_interval(_paired_difference(a, b), clusters)


def _paired_difference(a: PerQuery, b: PerQuery) -> PerQuery:
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise UsageError("a paired test needs the same queries, and the same lone ones, twice")
    return a - b


def ratio_interval(
    numerator: PerQuery, denominator: PerQuery, clusters: Keys | None = None
) -> Estimate:
    """Mean of one over the mean of the other, same queries, with its 95% interval: (Q,), (Q,).

    A resample whose denominator is 0 counts as 0: nothing was there to have a share of.

    Raises:
        UsageError: the two are not of the same queries. DataError: see `mean_interval`.
    """
    _paired_difference(numerator, denominator)
    above, below = (_clustered(values, clusters) for values in (numerator, denominator))
    result = stats.bootstrap(
        (above.sums, below.sums),
        _share,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(above.sums)),
        rng=np.random.default_rng(SEED),
    )
    low, high = result.confidence_interval
    counted = len(numerator) - above.skipped
    value = float(above.sums.sum() / below.sums.sum())
    return Estimate(
        value=value, low=float(low), high=float(high), counted=counted, skipped=above.skipped
    )


def paired_permutation_test(a: PerQuery, b: PerQuery, clusters: Keys | None = None) -> float:
    """Two-sided p-value of "a and b are exchangeable", swapping whole clusters.

    Exact when there are few clusters, else 9999 random swaps.

    Raises:
        UsageError: the two are not of the same queries. DataError: see `mean_interval`.
    """
    parts = _clustered(_paired_difference(a, b), clusters)
    result = stats.permutation_test(
        (parts.sums, np.zeros(len(parts.sums))),
        _difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=max(1, BATCH_VALUES // len(parts.sums)),
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def _difference(a: npt.NDArray[Any], b: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    difference: npt.NDArray[Any] = (a - b).sum(axis=axis)
    return difference


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for their number, in the order given (Holm 1979, step down).

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at
    alpha, whatever depends on what.

    Raises:
        UsageError: a value outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise UsageError(f"p-values lie in [0, 1], got {list(p_values)}")
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty(len(given))
    adjusted[order] = np.maximum.accumulate(steps).clip(max=1.0)
    return tuple(adjusted.tolist())


def smallest_resolvable_difference(
    a: PerQuery, b: PerQuery, clusters: Keys | None = None, *, power: float = 0.8
) -> float:
    """The true difference that this test set would show, at 5% two-sided, with the given power.

    (z_.975 + z_power) times the cluster-robust standard error of the mean of a - b, both (Q,). A
    smaller measured difference is no news about the models.

    Raises:
        UsageError: the two are not of the same queries. DataError: see `mean_interval`.
    """
    parts = _clustered(_paired_difference(a, b), clusters)
    n = len(parts.sums)
    residuals = parts.sums - parts.mean * parts.counts  # (C,)
    error = np.sqrt(n / (n - 1) * np.sum(np.square(residuals))) / parts.counts.sum()
    return float((stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(power)) * error)
