"""Backward compatibility in numbers, against the definitions written out."""

import numpy as np
import pytest

from compat.backward import average_compatibility, average_precisions, backward
from compat.scores import relevance
from compat.statistics import ratio_interval

CLASSES = [f"c{i // 2}" for i in range(40)]


def drawn(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(0, 1, 40)


def test_the_update_gain_is_the_share_of_the_whole_gain() -> None:
    old = drawn(0) * 0.5
    cross, free = old + 0.3 * drawn(1), old + 0.5 * drawn(2)
    found = backward(cross, old, free, CLASSES)
    assert found.criterion
    assert found.update_gain is not None
    expected = (cross.mean() - old.mean()) / (free.mean() - old.mean())
    assert found.update_gain.value == pytest.approx(expected)
    assert found.update_gain.low < expected < found.update_gain.high


def test_equality_fails_the_criterion_and_has_no_gain() -> None:
    found = backward(drawn(0), drawn(0), drawn(1) + 1, CLASSES)
    assert not found.criterion
    assert found.update_gain is None


def test_a_gain_needs_a_better_unconstrained_model() -> None:
    old = drawn(0)
    assert backward(old + 0.1, old, None, CLASSES).update_gain is None
    assert backward(old + 0.1, old, old - 0.1, CLASSES).update_gain is None


def test_average_compatibility_counts_the_pairs_that_hold() -> None:
    old = drawn(0)
    pairs = [backward(old + by, old, None, CLASSES) for by in (0.1, 0.2, -0.1, 0.0)]
    assert average_compatibility(pairs) == 0.5


def test_a_model_with_more_dimensions_shares_its_first_ones() -> None:
    rng = np.random.default_rng(0)
    query = rng.normal(size=(6, 5)).astype(np.float32)
    gallery = rng.normal(size=(9, 3)).astype(np.float32)
    relevant = relevance([0, 1, 2] * 2, [0, 1, 2] * 3)
    wide = average_precisions(query, gallery, relevant)
    np.testing.assert_array_equal(wide, average_precisions(query[:, :3], gallery, relevant))
    assert not np.array_equal(wide, average_precisions(query[:, 2:], gallery, relevant))


def test_a_ratio_whose_denominator_vanishes_in_resamples_stays_finite() -> None:
    whole = np.where(np.arange(40) < 2, 1.0, 0.0)  # all of it in one class
    found = ratio_interval(whole / 2, whole, CLASSES)
    assert (found.low, found.value, found.high) == (0.0, 0.5, 0.5)
