"""Intervals that cover, tests that hold their level, and what a test set can resolve."""

import itertools
import time

import numpy as np
import pytest

from compat.errors import DataError, UsageError
from compat.statistics import (
    holm,
    mean_interval,
    paired_difference_interval,
    paired_permutation_test,
    smallest_resolvable_difference,
)


def clustered(rng, classes=60, queries=12, spread=0.3, noise=0.1):
    """Queries of a class err together: most of the variance is between classes."""
    labels = np.repeat(np.arange(classes), queries)
    values = 0.5 + spread * rng.normal(size=classes)[labels]
    return values + noise * rng.normal(size=len(labels)), labels


def slow_interval(values, labels, resamples=2000):
    """Draw classes with replacement one by one and average what they hold."""
    rng = np.random.default_rng(99)
    classes = {label: values[labels == label] for label in np.unique(labels)}
    means = []
    for _ in range(resamples):
        drawn = [classes[label] for label in rng.choice(list(classes), size=len(classes))]
        means.append(np.concatenate(drawn).mean())
    return np.percentile(means, [2.5, 97.5])


def test_equals_the_oracle_with_classes_of_unequal_size():
    rng = np.random.default_rng(0)
    labels = rng.choice(40, size=300, p=np.arange(1, 41) / np.arange(1, 41).sum())
    values = rng.random(40)[labels] + 0.1 * rng.normal(size=300)
    found = mean_interval(values, labels)
    width = found.high - found.low
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(slow_interval(values, labels), abs=width / 10)


def test_an_interval_by_class_covers_and_one_by_query_does_not():
    rng = np.random.default_rng(1)
    covered = {"class": 0, "query": 0}
    for _ in range(80):
        values, labels = clustered(rng, classes=30, queries=10)
        by_class, by_query = mean_interval(values, labels), mean_interval(values)
        covered["class"] += by_class.low <= 0.5 <= by_class.high
        covered["query"] += by_query.low <= 0.5 <= by_query.high
    assert covered["class"] / 80 > 0.86
    assert covered["query"] / 80 < 0.6


def test_the_same_values_give_the_same_interval():
    values, labels = clustered(np.random.default_rng(2))
    assert mean_interval(values, labels) == mean_interval(values.copy(), labels.copy())


def test_names_of_classes_do_not_count_but_their_members_do():
    values, labels = clustered(np.random.default_rng(3))
    renamed = [f"class {label:03d}" for label in labels]
    assert mean_interval(values, renamed) == mean_interval(values, labels)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert mean_interval(values, shuffled).high < mean_interval(values, labels).high


def test_lone_queries_are_skipped_and_counted():
    values, labels = clustered(np.random.default_rng(4))
    with_lone = np.concatenate([values, [np.nan] * 5])
    found = mean_interval(with_lone, np.concatenate([labels, [0, 1, 900, 901, 902]]))
    plain = mean_interval(values, labels)
    assert (found.value, found.low, found.high) == (plain.value, plain.low, plain.high)
    assert (found.counted, found.skipped) == (len(values), 5)


def test_a_rate_of_one_has_an_interval():
    found = mean_interval(np.ones(30), np.arange(30) % 10)
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("values", "clusters"),
    [
        (np.full(4, np.nan), ["a", "a", "b", "b"]),
        (np.array([0.5, 0.7]), ["a", "a"]),
        (np.array([0.5, np.nan]), ["a", "b"]),
    ],
)
def test_one_class_bears_no_interval(values, clusters):
    with pytest.raises(DataError, match="at least two classes"):
        mean_interval(values, clusters)


def test_clusters_must_correspond():
    with pytest.raises(UsageError, match="3 clusters"):
        mean_interval(np.ones(4), [1, 2, 3])


def test_pairing_resolves_what_two_intervals_do_not():
    rng = np.random.default_rng(5)
    values, labels = clustered(rng)
    better = values + 0.02 + 0.02 * rng.normal(size=len(values))
    difference = paired_difference_interval(better, values, labels)
    a, b = mean_interval(better, labels), mean_interval(values, labels)
    assert difference.low > 0
    assert a.low < b.high
    assert difference.value == pytest.approx(a.value - b.value)
    opposite = paired_difference_interval(values, better, labels)
    assert (-opposite.high, -opposite.low) == pytest.approx((difference.low, difference.high))


def test_other_queries_are_no_pairs():
    with pytest.raises(UsageError, match="same queries"):
        paired_difference_interval(np.ones(3), np.ones(4))
    with pytest.raises(UsageError, match="lone ones"):
        paired_difference_interval(np.array([1, np.nan, 1]), np.ones(3))


def test_a_permutation_test_of_few_classes_is_exact():
    rng = np.random.default_rng(6)
    a, b, labels = rng.random(24), rng.random(24), np.repeat(np.arange(8), 3)
    sums = np.array([(a - b)[labels == label].sum() for label in range(8)])
    flips = np.array(list(itertools.product([1, -1], repeat=8)))
    extreme = np.abs(flips @ sums) >= abs(sums.sum()) - 1e-12
    assert paired_permutation_test(a, b, labels) == pytest.approx(extreme.mean(), abs=1e-9)


def test_a_permutation_test_holds_its_level_and_sees_a_difference():
    rng = np.random.default_rng(7)
    values, labels = clustered(rng, classes=9, queries=4)
    rejected = 0
    for _ in range(100):
        other, _ = clustered(rng, classes=9, queries=4)
        rejected += paired_permutation_test(values, other, labels) <= 0.05
        values = other
    assert rejected <= 14  # of 100 at 5%
    assert paired_permutation_test(values + 1, values, labels) < 0.01
    assert paired_permutation_test(values, values, labels) == 1


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_holm_rejects_what_stepping_down_rejects():
    rng = np.random.default_rng(8)
    for _ in range(50):
        p_values = (rng.random(6) ** 4).tolist()
        rejected = set()
        for place, index in enumerate(sorted(range(6), key=p_values.__getitem__)):
            if p_values[index] > 0.05 / (6 - place):
                break
            rejected.add(index)
        assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


@pytest.mark.parametrize("p_values", [[-0.1], [1.1], [float("nan")]])
def test_what_is_no_probability_is_refused(p_values):
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        holm(p_values)


def test_a_difference_of_the_resolvable_size_is_found_four_times_in_five():
    rng = np.random.default_rng(9)
    sizes, found = [], 0
    for trial in range(300):
        difference, labels = clustered(rng, classes=100, queries=4)
        centred = difference - 0.5
        size = smallest_resolvable_difference(centred, np.zeros(400), labels)
        sizes.append(size)
        if trial:
            shown = paired_z(centred + np.mean(sizes), labels)
            found += abs(shown) > 1.96
    assert found / 299 == pytest.approx(0.8, abs=0.07)


def paired_z(values, labels):
    means = np.array([values[labels == label].mean() for label in np.unique(labels)])
    return means.mean() / (means.std(ddof=1) / np.sqrt(len(means)))


def test_more_queries_resolve_less():
    rng = np.random.default_rng(10)
    few = rng.normal(size=100)
    many = np.tile(few, 4)
    small = smallest_resolvable_difference(many, np.zeros(400))
    assert small == pytest.approx(smallest_resolvable_difference(few, np.zeros(100)) / 2, rel=0.01)
    assert smallest_resolvable_difference(many, np.zeros(400), power=0.95) > small


def test_an_interval_is_quick_enough_for_a_hundred_in_a_report():
    rng = np.random.default_rng(11)
    values, labels = rng.random(1000), rng.integers(330, size=1000)
    mean_interval(values, labels)
    start = time.process_time()
    for _ in range(5):
        mean_interval(values, labels)
    assert (time.process_time() - start) / 5 < 0.2
