"""Negative flips against a loop, independence and its corner cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.errors import UsageError
from compat.flips import count_flips


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_equals_a_loop(answers):
    old = np.array([np.nan if lone else float(was) for was, _, lone in answers])
    new = np.array([np.nan if lone else float(now) for _, now, lone in answers])
    negative = positive = counted = old_wrong = new_wrong = 0
    for was, now, lone in answers:
        if not lone:
            counted += 1
            negative += was and not now
            positive += now and not was
            old_wrong += not was
            new_wrong += not now
    found = count_flips(old, new)
    assert (found.negative, found.positive) == (negative, positive)
    assert np.nansum(found.negative_per_query) == negative
    assert np.isnan(found.negative_per_query).sum() == len(answers) - counted
    if counted and old_wrong < counted and new_wrong:
        independent = (1 - old_wrong / counted) * (new_wrong / counted)
        assert found.relative_nfr == pytest.approx(negative / counted / independent)
    else:
        assert found.relative_nfr is None


def test_independent_models_have_a_relative_rate_of_one():
    rng = np.random.default_rng(0)
    old = (rng.random(200_000) < 0.7).astype(float)
    new = (rng.random(200_000) < 0.8).astype(float)
    found = count_flips(old, new)
    assert found.relative_nfr == pytest.approx(1, abs=0.02)
    assert found.negative / 200_000 == pytest.approx(0.7 * 0.2, abs=0.005)


def test_a_model_does_not_flip_against_itself():
    old = np.array([1.0, 0.0, np.nan, 1.0])
    found = count_flips(old, old)
    assert (found.negative, found.positive, found.relative_nfr) == (0, 0, 0.0)


def test_a_better_model_may_flip():
    """Why flips are measured: 3 of 4 right after 2 of 4, and still one user loses an answer."""
    found = count_flips(np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 1]))
    assert (found.negative, found.positive) == (1, 2)


def test_other_queries_are_refused():
    with pytest.raises(UsageError, match="same queries"):
        count_flips(np.array([1.0, 0]), np.array([1.0]))
    with pytest.raises(UsageError, match="same lone ones"):
        count_flips(np.array([1.0, np.nan]), np.array([1.0, 0]))


def test_average_precisions_are_no_answers():
    with pytest.raises(UsageError, match="right"):
        count_flips(np.array([0.3, 1.0]), np.array([1.0, 1.0]))
