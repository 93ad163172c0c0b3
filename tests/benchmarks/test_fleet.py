"""The fleet of the benchmark, small: it halts by itself, and can itself be wrong."""

import datetime
from pathlib import Path

import pytest
from tuf.ngclient._internal import trusted_metadata_set

from benchmarks.fleet import Plan, Round, simulate, verdict, wrong_clocks
from benchmarks.fleet_link import Line
from compat.manifest import HaltRule

SMALL = Plan(
    devices=30,
    bad_percent=60,
    every=10,
    rule=HaltRule(min_devices=5),
    line=Line(stalled=0.0),  # a stall takes as long as a device waits
)


def test_a_small_fleet_halts_a_bad_release_and_keeps_working(tmp_path: Path):
    rounds = simulate(SMALL, tmp_path)  # raises when a device is left without a working release
    assert verdict(rounds) == ""
    installed, good, bad, after = rounds
    assert installed.runs == {"1.0.0": 30}
    assert 0 < good.runs["1.1.0"] < 15
    assert bad.halted_after in (10, 20, 30)
    assert after.runs["1.1.0"] >= 25
    assert sum(each.spoilt for each in rounds) > 0


def test_clocks_are_right_again_afterwards():
    with wrong_clocks():
        assert trusted_metadata_set.datetime is not datetime
    assert trusted_metadata_set.datetime is datetime


@pytest.mark.parametrize(
    ("halted", "left", "words"),
    [
        ((None, 400), 0, ""),
        ((50, 400), 0, "good release"),
        ((None, None), 0, "not taken back"),
        ((None, 400), 3, "still runs"),
    ],
)
def test_the_verdict(halted, left, words):
    good, bad, after = (Round(name) for name in "abc")
    good.halted_after, bad.halted_after = halted
    after.runs["1.2.0"], after.ends["untrusted"] = left, 2
    found = verdict([Round("0"), good, bad, after])
    assert (words in found) if words else found == ""
