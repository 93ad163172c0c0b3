"""The disk is full, or the power goes, at every single call that `write_atomic` makes of it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compat import files
from compat.errors import UsageError
from compat.files import write_atomic

OLD, NEW = b"old" * 100, b"new!" * 100


class DiskFault:
    """A disk that does what it is told ``left`` times; then every call fails, or nothing runs.

    What was written and not synced is lost with the power: the file is empty afterwards.
    """

    def __init__(self, monkeypatch, left: int, fault: Callable[[], BaseException]) -> None:
        self.left, self.fault, self.calls = left, fault, []
        self._unsynced: dict[int, str] = {}
        real_replace = os.replace

        def opened(path, mode, *args, **kwargs):
            self._spend("open")
            file = open(path, mode, *args, **kwargs)  # noqa: PTH123, SIM115 (an opener comes along)
            return self._watched(file, path)

        def fsync(handle):
            self._spend("fsync")
            self._unsynced.pop(handle, None)

        def replace(source, target, *args, **kwargs):
            self._spend("replace")
            lost = str(source) in self._unsynced.values()
            real_replace(source, target, *args, **kwargs)
            if lost:
                Path(target).write_bytes(b"")  # the name reached the disk, the bytes did not

        monkeypatch.setattr(files, "open", opened, raising=False)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)

    def _watched(self, file, path):
        """``file``, with a chance to fail when half of the bytes are written."""
        self._unsynced[file.fileno()] = str(path)
        write = file.write

        def half_and_half(blob):
            write(blob[: len(blob) // 2])
            self._spend("write")
            return write(blob[len(blob) // 2 :])

        file.write = half_and_half
        return file

    def _spend(self, call: str) -> None:
        if self.left <= 0:
            raise self.fault()
        self.left -= 1
        self.calls.append(call)


@pytest.mark.parametrize("left", range(5))
@pytest.mark.parametrize("fault", ["full", "cut"])
def test_write_atomic_leaves_the_old_or_the_new(tmp_path, monkeypatch, left, fault, power_cut):
    path = tmp_path / "current.json"
    path.write_bytes(OLD)

    def full():
        return OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        disk = DiskFault(patch, left, full if fault == "full" else power_cut)
        with pytest.raises(UsageError if fault == "full" else power_cut):
            write_atomic(path, NEW)
    assert disk.left == 0
    assert path.read_bytes() == (NEW if "replace" in disk.calls else OLD)
    if fault == "full":
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
    write_atomic(path, NEW)  # the repeat
    assert path.read_bytes() == NEW


def test_write_atomic_syncs_before_it_renames(tmp_path, monkeypatch):
    """Else the name may reach the disk before the bytes do."""
    path = tmp_path / "current.json"
    path.write_bytes(OLD)
    with monkeypatch.context() as patch:
        disk = DiskFault(patch, 100, OSError)
        write_atomic(path, NEW)
    assert path.read_bytes() == NEW
    assert disk.calls == ["open", "write", "fsync", "replace", "fsync"]
