"""The disk fills up, or the power goes, at every single write of a whole update.

Every file that is opened to be written, by us and by python-tuf, is watched. With the power goes
what was not synced: such a file is empty afterwards, whatever its name is by then.
"""

import builtins
import errno
import io
import os
import tempfile
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.ngclient._internal import trusted_metadata_set

from compat.errors import UntrustedError, UsageError
from registry.deltas import publish_deltas
from registry.repository import utc_now

WRITING = set("wax+")


class Disk:
    """Everything under ``folder``; the ``left``-th write to it fails half-way."""

    def __init__(self, folder: Path, left: int, fault) -> None:
        self.folder, self.left, self.fault = folder, left, fault
        self._dirty: set[int] = set()
        self._open = io.open

    @contextmanager
    def watched(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(io, "open", self._opened)
            patch.setattr(builtins, "open", self._opened)
            patch.setattr(tempfile._io, "open", self._opened)
            patch.setattr(os, "fsync", self._synced)
            yield

    def lose_power(self) -> None:
        """What was not synced is gone."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_ino in self._dirty:
                os.truncate(path, 0)

    def _opened(self, path, mode="r", *args, **kwargs):
        file = self._open(path, mode, *args, **kwargs)
        name = file.name if isinstance(file.name, str) else path
        if not WRITING & set(mode) or not str(name).startswith(str(self.folder)):
            return file
        self._dirty.add(os.fstat(file.fileno()).st_ino)
        write = file.write

        def half_and_half(blob):
            self._dirty.add(os.fstat(file.fileno()).st_ino)
            write(blob[: len(blob) // 2])
            self._spend()
            return len(blob) // 2 + write(blob[len(blob) // 2 :])

        file.write = half_and_half
        return file

    def _synced(self, handle) -> None:
        self._dirty.discard(os.fstat(handle).st_ino)

    def _spend(self) -> None:
        if self.left <= 0:
            raise self.fault()
        self.left -= 1


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def nudged(small):
    """A device on 1.0.0; 1.1.0 is offered with deltas."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    small.publish("1.1.0", seed=1, nudge=0.5)
    publish_deltas(small.repository, small.released["1.1.0"])
    return device


def writes_of(small, device) -> int:
    """How many writes a whole update makes."""
    victim = small.copied(device, "count")
    disk = Disk(victim.home, 10**6, full)
    with disk.watched():
        victim.update()
    return 10**6 - disk.left


def test_disk_full_at_every_write_of_an_update(small, nudged, running):
    before = running(nudged)
    good = small.copied(nudged, "good")
    assert good.update().fetched_as in ("tensors", "hdiff")
    after = running(good)
    writes = writes_of(small, nudged)
    assert writes > 10
    failed = 0
    for left in range(writes):
        victim = small.copied(nudged, "victim")
        with Disk(victim.home, left, full).watched():
            try:
                victim.update()
            except UsageError:
                failed += 1
                assert running(victim) == before
            else:
                assert running(victim) == after, "only the note of it could not be written"
        assert running(small.open(victim.home)) in (before, after)
        assert small.open(victim.home).update().version == "1.1.0"
        assert running(small.open(victim.home)) == after
    assert failed > 8


def test_power_cut_at_every_write_of_an_update(small, nudged, running, power_cut):
    before = running(nudged)
    good = small.copied(nudged, "good")
    good.update()
    after = running(good)
    for left in range(writes_of(small, nudged)):
        victim = small.copied(nudged, "victim")
        disk = Disk(victim.home, left, power_cut)
        with disk.watched(), pytest.raises(power_cut):
            victim.update()
        disk.lose_power()
        survivor = small.open(victim.home)
        assert running(survivor) in (before, after), left
        assert survivor.embedder().dim == 4
        survivor.update()
        assert running(survivor) == after


def test_what_another_process_left_behind_is_removed(small, nudged):
    left = nudged.home / ".current.json.1.part"
    left.write_bytes(b"{")
    nudged.update()
    assert not left.exists()


def test_a_power_cut_does_not_make_a_device_forget_what_it_saw(small, running):
    """Versions seen are what a rollback is noticed by: they are on the disk before we go on."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    timestamp = small.folder / "metadata" / "timestamp.json"
    old = timestamp.read_bytes()
    small.publish("1.1.0", seed=2)
    disk = Disk(device.home, 10**6, full)
    with disk.watched():
        device.update()
    disk.lose_power()
    survivor = small.open(device.home)
    after = running(survivor)
    assert after[0] == "1.1.0"
    timestamp.write_bytes(old)
    with pytest.raises(UntrustedError):
        survivor.update()
    assert running(survivor) == after


def clock_at(monkeypatch, offset: timedelta) -> None:
    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + offset

    monkeypatch.setattr(trusted_metadata_set.datetime, "datetime", Shifted)


def test_a_clock_set_back_does_not_stop_updates(small, monkeypatch):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    small.publish("1.1.0", seed=2)
    clock_at(monkeypatch, timedelta(days=-4000))
    assert device.update().version == "1.1.0"


def test_attack_a_frozen_mirror_behind_a_clock_that_was_set_back(small, monkeypatch, running):
    """Nothing is expired for a clock of last year; what the device lived through still counts."""
    small.now = lambda: utc_now() - timedelta(hours=30)
    small.publish("1.0.0", seed=1)  # its timestamp speaks for a day
    mirror = (small.folder / "metadata" / "timestamp.json").read_bytes()
    small.now = utc_now
    small.repository.refresh()
    device = small.device()
    device.update()
    before = running(device)
    new = small.device("new")
    (small.folder / "metadata" / "timestamp.json").write_bytes(mirror)
    clock_at(monkeypatch, timedelta(hours=-20))
    new.update()  # it has lived through nothing: that is what a clock is for
    for cached in ("timestamp.json", "snapshot.json"):  # nor do versions speak
        (device.home / "trust" / cached).unlink()
    with pytest.raises(UntrustedError, match="clock was set back"):
        device.update()
    assert running(device) == before
    assert device.status().last_update.exit_code == 4
    small.repository.refresh()
    assert device.update().changed is False
