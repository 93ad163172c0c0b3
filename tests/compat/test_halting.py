"""Too many failures: the interval against an oracle, and the rule at its edges."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from compat.halting import LEVEL, judge, wilson_interval
from compat.manifest import HaltRule


@pytest.mark.parametrize(("hits", "counted"), [(0, 7), (1, 2), (3, 20), (25, 50), (50, 50)])
def test_the_interval_solves_the_score_equation(hits, counted):
    """Oracle: the p at which (share - p)^2 = z^2 p (1 - p) / n, by bisection."""
    z, share = norm.ppf((1 + LEVEL) / 2), hits / counted

    def score(p: float) -> float:
        return (share - p) ** 2 - z**2 * p * (1 - p) / counted

    low, high = wilson_interval(hits, counted)
    assert low == pytest.approx(brentq(score, 0, min(share, 1 - 1e-9)) if hits else 0.0, abs=1e-9)
    assert high == pytest.approx(
        brentq(score, max(share, 1e-9), 1) if hits < counted else 1.0, abs=1e-9
    )


def test_nothing_is_known_of_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert math.isnan(judge(HaltRule(), 0, 0).share)
    for hits, counted in ((2, 1), (-1, 4)):
        with pytest.raises(ValueError, match="is no share"):
            wilson_interval(hits, counted)


def test_a_good_release_is_seldom_taken_back_a_bad_one_soon():
    """At exactly the allowed share, looked at after each report from the 20th to the 500th."""
    rng, rule = np.random.default_rng(0), HaltRule(failure_share=0.05, min_devices=20)

    def halts_at(share: float) -> int | None:
        failed = np.cumsum(rng.random(500) < share)
        counts = range(rule.min_devices, 501)
        return next((n for n in counts if judge(rule, int(failed[n - 1]), n).is_too_many), None)

    assert np.mean([halts_at(0.01) is not None for _ in range(100)]) == 0
    assert np.mean([halts_at(0.05) is not None for _ in range(100)]) < 0.15
    assert max(halts_at(0.6) or 999 for _ in range(100)) < 40


def test_a_few_reports_decide_nothing():
    rule = HaltRule(failure_share=0.05, min_devices=20)
    assert not judge(rule, 19, 19).is_too_many
    assert judge(rule, 20, 20).is_too_many
    assert not judge(rule, 1, 20).is_too_many  # 5%, but it may be less
