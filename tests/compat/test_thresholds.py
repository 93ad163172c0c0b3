"""TAR at FAR against a slow oracle, noise, ties and pairs that are no pairs."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compat.errors import UsageError
from compat.scores import relevance
from compat.thresholds import accept_rates, threshold_at_far, threshold_stability

GRID_ROW = st.tuples(*[st.integers(-1, 1)] * 3).filter(any)


def pairs(query, gallery, query_labels, gallery_labels):
    genuine, impostor = [], []
    for q, label in zip(query, query_labels, strict=True):
        for g, other in zip(gallery, gallery_labels, strict=True):
            size = math.sqrt(float(q @ q)) * math.sqrt(float(g @ g))
            (genuine if label == other else impostor).append(round(float(q @ g) / size, 6))
    return genuine, impostor


def oracle_rates(genuine, impostor, far):
    """Try every impostor's score as the cut, lowest first, until few enough lie above it."""
    for cut in sorted(impostor):
        above = sum(score > cut for score in impostor)
        if above <= far * len(impostor) + 1e-9:
            return sum(score > cut for score in genuine) / len(genuine), above / len(impostor)
    raise AssertionError


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(GRID_ROW, st.integers(0, 2)), min_size=2, max_size=8),
    st.lists(st.tuples(GRID_ROW, st.integers(0, 2)), min_size=2, max_size=12),
    st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]),
    st.sampled_from([1, 2**20]),
)
def test_equals_the_oracle_where_almost_everything_ties(queries, items, far, block_bytes):
    query, query_labels = zip(*queries, strict=True)
    gallery, gallery_labels = zip(*items, strict=True)
    query, gallery = np.array(query, dtype=np.float32), np.array(gallery, dtype=np.float32)
    genuine, impostor = pairs(query, gallery, query_labels, gallery_labels)
    assume(genuine and far * len(impostor) >= 1)
    both = relevance(query_labels, gallery_labels)
    threshold = threshold_at_far(query, gallery, both, far, block_bytes=block_bytes)
    rates = accept_rates(query, gallery, both, threshold, block_bytes=block_bytes)
    assert (rates.tar, rates.far) == pytest.approx(oracle_rates(genuine, impostor, far))
    assert (rates.genuine, rates.impostors) == (len(genuine), len(impostor))


def noise(seed=0, queries=300, items=400, classes=20, dim=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=queries), rng.integers(classes, size=items)
    return rng.normal(size=(queries, dim)), rng.normal(size=(items, dim)), relevance(*labels)


def test_noise_is_accepted_at_chance():
    query, gallery, both = noise()
    for far in (0.01, 0.1, 0.5):
        rates = accept_rates(query, gallery, both, threshold_at_far(query, gallery, both, far))
        assert rates.far <= far
        assert rates.far == pytest.approx(far, abs=2 / rates.impostors)
        assert rates.tar == pytest.approx(far, abs=0.03)


def test_a_good_model_is_accepted():
    rng = np.random.default_rng(1)
    labels, centres = np.repeat(np.arange(10), 8), rng.normal(size=(10, 32))
    query = centres[labels] + 0.2 * rng.normal(size=(80, 32))
    both = relevance(labels, np.arange(10))
    rates = accept_rates(query, centres, both, threshold_at_far(query, centres, both, 0.01))
    assert rates.tar == 1


def test_attack_a_collapsed_model_lets_nobody_in():
    query, gallery = np.ones((10, 3)), np.ones((20, 3))
    both = relevance(np.arange(10) % 2, np.arange(20) % 2)
    rates = accept_rates(query, gallery, both, threshold_at_far(query, gallery, both, 0.1))
    assert (rates.tar, rates.far) == (0, 0)


def test_a_query_s_own_image_is_no_genuine_pair():
    rng = np.random.default_rng(2)
    rows, labels = rng.normal(size=(40, 6)), np.repeat(np.arange(10), 4)
    ids = np.arange(40)
    both = relevance(labels, labels, query_ids=ids, gallery_ids=ids)
    rates = accept_rates(rows, rows, both, 0.9999)
    assert (rates.genuine, rates.impostors) == (40 * 3, 40 * 36)
    assert rates.accepted_genuine == 0
    assert threshold_at_far(rows, rows, both, 0.01) < 0.9999


def test_a_far_that_the_set_cannot_show_is_refused():
    query, gallery, both = noise(queries=5, items=10)
    with pytest.raises(UsageError, match="cannot be measured on"):
        threshold_at_far(query, gallery, both, 1e-4)


@pytest.mark.parametrize("far", [0.0, 1.0, -0.1, float("nan")])
def test_a_far_outside_its_range_is_refused(far):
    with pytest.raises(UsageError, match="between 0 and 1"):
        threshold_at_far(*noise(queries=5, items=10), far)


def test_a_whole_number_of_pairs_is_not_lost_to_rounding():
    """0.29 * 300 is 86.99999999999999 in binary."""
    rng = np.random.default_rng(3)
    query, gallery = rng.normal(size=(10, 8)), rng.normal(size=(30, 8))
    both = relevance(np.arange(10), np.arange(30) + 100)
    for far, accepted in ((0.01, 3), (0.07, 21), (0.29, 87)):
        threshold = threshold_at_far(query, gallery, both, far)
        assert accept_rates(query, gallery, both, threshold).accepted_impostors == accepted


def test_the_same_model_keeps_its_threshold():
    query, gallery, both = noise()
    stable = threshold_stability(query, query, gallery, both, 0.05)
    assert (stable.far_change, stable.tar_change) == (0, 0)


def test_a_narrower_model_breaks_the_old_threshold():
    """Retrieval is unchanged by a shift towards the mean; a fixed threshold is not."""
    rng = np.random.default_rng(4)
    labels, centres = np.repeat(np.arange(20), 5), rng.normal(size=(20, 16))
    query = centres[labels] + 0.5 * rng.normal(size=(100, 16))
    both = relevance(labels, np.arange(20))
    drifted = query + 3 * centres.mean(axis=0) + 1.5
    stable = threshold_stability(query, drifted, centres + 0.5, both, 0.02)
    assert stable.before.far <= 0.02
    assert stable.far_change > 0.02


def test_rates_without_pairs_are_not_numbers():
    rates = accept_rates(np.eye(2), np.eye(2), relevance([0, 1], [5, 6]), 0.5)
    assert math.isnan(rates.tar)
    assert rates.far == 0.5
