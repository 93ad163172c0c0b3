"""Where a channel points after each move, and the moves that are refused."""

import pytest

from compat.errors import RefusedError, UsageError
from compat.manifest import Channel, HaltRule, Requirements
from registry.channel_moves import demoted, newest, paused, promoted

START = Channel(family="furniture", channel="stable", version="1.0.0")
LINUX = Requirements(systems=("Linux",))


def staged(percent: float = 5, version: str = "1.1.0") -> Channel:
    return promoted(START, version, percent=percent)


def test_a_rollout_grows_and_settles():
    first = staged()
    assert (first.version, newest(first)) == ("1.0.0", "1.1.0")  # an old client reads 1.0.0
    half = promoted(first, "1.1.0", percent=50, halt=HaltRule(min_devices=3))
    assert (half.rollouts[0].percent, half.rollouts[0].halt.min_devices) == (50, 3)
    assert promoted(half, "1.1.0", percent=50) == half
    done = promoted(half, "1.1.0", percent=100)
    assert (done.version, done.rollouts) == ("1.1.0", ())
    assert promoted(done, "1.1.0", percent=100) == done
    assert promoted(START, "1.1.0", percent=100) == done


def test_a_rollout_with_requirements_stays_one_and_another_may_stand_on_it():
    some = promoted(START, "1.1.0", percent=100, requires=LINUX)
    assert (some.version, newest(some)) == ("1.0.0", "1.1.0")
    more = promoted(some, "1.2.0", percent=5)
    assert [each.version for each in more.rollouts] == ["1.2.0", "1.1.0"]
    assert promoted(more, "1.2.0", percent=100).rollouts == ()  # settled: nothing is below it
    assert demoted(more) == some
    assert demoted(more, "1.1.0") == some
    assert demoted(more, "1.0.0") == START


def test_a_rollout_does_not_shrink_jump_or_run_beside_another():
    half = staged(50)
    with pytest.raises(RefusedError, match="does not shrink"):
        promoted(half, "1.1.0", percent=5)
    with pytest.raises(RefusedError, match="still being rolled out"):
        promoted(half, "1.2.0", percent=5)
    with pytest.raises(RefusedError, match="is paused"):
        promoted(paused(half, is_paused=True), "1.1.0", percent=60)
    with pytest.raises(UsageError, match="kinspace demote"):
        promoted(half, "1.0.0", percent=100)
    with pytest.raises(UsageError, match="kinspace demote"):
        promoted(promoted(START, "1.1.0", percent=100, requires=LINUX), "1.0.5", percent=100)
    for percent in (-1, 101, float("nan")):
        with pytest.raises(UsageError, match="0 to 100 percent"):
            promoted(START, "1.1.0", percent=percent)


def test_a_pause_is_undone():
    half = staged(50)
    assert paused(half, is_paused=True).rollouts[0].paused
    assert paused(paused(half, is_paused=True), is_paused=False) == half
    with pytest.raises(UsageError, match="nothing is being rolled out"):
        paused(START, is_paused=True)


def test_the_way_down():
    assert demoted(staged(50)) == START
    done = promoted(START, "1.1.0", percent=100)
    assert demoted(done, "1.0.0") == START
    assert demoted(staged(50), "0.9.0").version == "0.9.0"
    for channel, version in ((START, None), (START, "1.0.0"), (START, "1.1.0")):
        with pytest.raises(UsageError):
            demoted(channel, version)


def test_there_is_an_end_to_what_stands_above_one_another():
    channel = START
    for minor in range(1, 9):
        channel = promoted(channel, f"1.{minor}.0", percent=100, requires=LINUX)
    with pytest.raises(UsageError, match="8 releases with requirements"):
        promoted(channel, "1.9.0", percent=100, requires=LINUX)
    assert Channel.from_bytes(channel.to_bytes()) == channel
