"""The rule and the figures of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.costs import amortised_cost, average_compatibility, is_compatible, update_gain
from compat.errors import UsageError


def test_the_rule_is_strict():
    assert is_compatible(cross_test=0.51, self_test=0.5)
    assert not is_compatible(cross_test=0.5, self_test=0.5)
    assert not is_compatible(cross_test=0.4, self_test=0.5)


@pytest.mark.parametrize(
    ("cross_test", "self_test"), [(math.nan, 0.5), (0.5, math.nan), (math.nan, math.nan)]
)
def test_what_was_not_measured_is_not_compatible(cross_test, self_test):
    assert not is_compatible(cross_test=cross_test, self_test=self_test)


def test_amortised_cost_of_a_fashion_search():
    """CMP-NAS fashion: 7597 MFLOPs in the cloud, 93 on the device."""
    costs = [
        amortised_cost(gallery_macs=7597, query_macs=93, queries_per_item=r) for r in (0, 1, 99)
    ]
    assert costs == pytest.approx([7597, (7597 + 93) / 2, (7597 + 99 * 93) / 100])


def test_a_negative_cost_is_refused():
    with pytest.raises(UsageError, match="negative"):
        amortised_cost(gallery_macs=1, query_macs=1, queries_per_item=-1)


def test_update_gain_of_the_paper():
    """BCT with synthesised rows on IJB-C, 1:1 and 1:N: 30.0% and 64.8%."""
    one = update_gain(cross_test=0.8059, old_self_test=0.7786, backfilled=0.8696)
    many = update_gain(cross_test=0.7070, old_self_test=0.5934, backfilled=0.7688)
    assert (one, many) == pytest.approx((0.300, 0.648), abs=5e-4)


def test_update_gain_is_undefined_where_the_rule_fails():
    assert update_gain(cross_test=0.5, old_self_test=0.5, backfilled=0.9) is None
    assert update_gain(cross_test=0.0, old_self_test=0.5, backfilled=0.9) is None
    assert update_gain(cross_test=0.6, old_self_test=0.5, backfilled=0.5) is None


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_average_compatibility_equals_a_loop(steps, seed):
    accuracy = np.random.default_rng(seed).integers(0, 4, size=(steps, steps)) / 4
    kept = [accuracy[i, j] > accuracy[j, j] for i in range(steps) for j in range(i)]
    assert average_compatibility(accuracy) == pytest.approx(sum(kept) / len(kept))


def test_equality_is_no_compatibility_in_a_chain():
    assert average_compatibility(np.full((3, 3), 0.5)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4,)])
def test_what_is_no_chain_is_refused(shape):
    with pytest.raises(UsageError, match="T >= 2"):
        average_compatibility(np.zeros(shape))
