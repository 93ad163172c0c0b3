"""The power goes at any moment: the old release runs on, a repeat completes the new one."""

import shutil

import pytest

from compat.errors import UsageError
from edge.lock import exclusive
from registry.publish import publish


def crashes(cut_power, power_cut, work, prepare):
    """Run ``work(prepare())`` with the power cut before its first, second, ... change of a name.

    Yields what was prepared after each cut; ends when ``work`` runs to its end.
    """
    for left in range(200):
        subject = prepare(left)
        power = cut_power(left)
        try:
            work(subject)
        except power_cut:
            power.left = 10**9  # the power is back
            yield subject
        else:
            assert left > 5, "nothing was written: the attack hit nothing"
            return
    raise AssertionError("it never ends")


def test_power_cut_during_update(small, running, cut_power, power_cut):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    small.publish("1.1.0", seed=2)
    good = small.copied(device, "good")
    good.update()
    after = running(good)
    switched = []
    for victim in crashes(
        cut_power,
        power_cut,
        lambda one: one.update(),
        lambda left: small.copied(device, f"cut-{left}"),
    ):
        survivor = small.open(victim.home)  # a new process finds what the disk holds
        found = running(survivor)
        assert found in (before, after)
        assert survivor.embedder().dim == 4
        switched.append(found == after)
        survivor.update()
        assert running(survivor) == after
        blobs = {path.name for path in (survivor.home / "blobs").iterdir()}
        assert blobs <= {path.name for path in (good.home / "blobs").iterdir()}
    assert switched == sorted(switched), "once switched, never back"
    assert {True, False} == set(switched)


def test_power_cut_during_the_first_update(small, cut_power, power_cut, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    for victim in crashes(
        cut_power,
        power_cut,
        lambda one: one.update(),
        lambda left: small.copied(device, f"cut-{left}"),
    ):
        survivor = small.open(victim.home)
        current = survivor.status().current
        assert current is None or running(survivor)[0] == "1.0.0"
        survivor.update()
        assert running(survivor)[0] == "1.0.0"


def test_power_cut_during_init_of_a_device(small, cut_power, power_cut):
    small.publish("1.0.0", seed=1)
    root = small.repository.trusted_root
    for victim in crashes(
        cut_power,
        power_cut,
        lambda one: one.init(str(small.folder), root, "furniture"),
        lambda left: small.open(small.base / f"cut-{left}"),
    ):
        victim.init(str(small.folder), root, "furniture")
        assert victim.update().version == "1.0.0"


def test_power_cut_during_publish(small, cut_power, power_cut, candidate, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before, kept = running(device), small.base / "kept"
    shutil.copytree(small.folder, kept)

    def prepare(left):
        shutil.rmtree(small.folder)
        shutil.copytree(kept, small.folder)
        return left

    served = []
    for left in crashes(
        cut_power,
        power_cut,
        lambda _: publish(small.repository, candidate("1.1.0", seed=2)),
        prepare,
    ):
        known, new = small.copied(device, "known"), small.device(f"new-{left}")
        known.update()
        version = new.update().version
        assert running(known)[0] == version
        if version == "1.0.0":
            assert running(known) == before
        served.append(version)
        publish(small.repository, candidate("1.1.0", seed=2))  # the repeat
        assert known.update().version == new.update().version == "1.1.0"
    assert served == sorted(served)
    assert set(served) == {"1.0.0", "1.1.0"}


def test_a_repeat_after_a_cut_may_be_another_release(small, cut_power, power_cut, candidate):
    """What a crash left lying about is not published by the next one."""
    small.publish("1.0.0", seed=1)
    renames = (
        len(candidate("1.1.0", seed=2).blobs) + 1 + 4
    )  # report; manifest, channel, history, matrix
    power = cut_power(2 * (renames + 2))  # each with one unlink; + family role and snapshot
    with pytest.raises(power_cut):
        publish(small.repository, candidate("1.1.0", seed=2))
    power.left = 10**9
    assert (small.folder / "metadata" / "4.snapshot.json").exists()
    assert small.device("between").update().version == "1.0.0"
    publish(small.repository, candidate("1.2.0", seed=3))
    assert small.device().update().version == "1.2.0"
    assert small.repository.read("furniture", "furniture/releases/1.1.0.json", max_bytes=9) is None


def test_power_cut_while_a_registry_is_made(small, cut_power, power_cut, candidate):
    def prepare(left):
        for name in ("registry", "keys"):
            shutil.rmtree(small.base / name, ignore_errors=True)
        return small.repository

    def make(repository):
        repository.create()
        repository.add_family("furniture")

    for repository in crashes(cut_power, power_cut, make, prepare):
        make(repository)
        publish(repository, candidate("1.0.0", seed=1))
        shutil.rmtree(small.base / "home", ignore_errors=True)
        assert small.device().update().version == "1.0.0"


def test_two_updates_at_once(small, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    small.publish("1.1.0", seed=2)
    with exclusive(device.home / ".lock", "x"), pytest.raises(UsageError, match="another update"):
        device.update()
    assert running(device) == before
    assert device.update().changed is True


def test_two_publishers_at_once(small, candidate):
    small.publish("1.0.0", seed=1)
    before = {path: path.read_bytes() for path in small.files()}
    with (
        exclusive(small.folder / ".store.lock", "x"),
        pytest.raises(UsageError, match="another publisher"),
    ):
        publish(small.repository, candidate("1.1.0", seed=2))
    assert {path: path.read_bytes() for path in small.files()} == before
    assert publish(small.repository, candidate("1.1.0", seed=2)).version == "1.1.0"
