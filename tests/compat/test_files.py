"""Bounded reads, atomic writes, digests: power cuts and wrong bytes."""

import os
from pathlib import Path

import pytest

from compat.errors import CorruptError, UsageError
from compat.files import digest_of, read_bounded, read_digested, write_atomic


def test_a_digest_is_sha256():
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_at_its_bound_is_read_and_one_byte_more_is_not(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bounded(file, 5) == b"12345"
    with pytest.raises(UsageError, match="more than 4 bytes"):
        read_bounded(file, 4)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None])
def test_what_cannot_be_read_is_a_usage_error(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(UsageError, match="cannot read"):
        read_bounded(tmp_path / "x", 10)


def test_attack_other_bytes_under_the_same_name(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    assert read_digested(file, digest_of(b"weights"), 100) == b"weights"
    file.write_bytes(b"Weights")
    with pytest.raises(CorruptError, match="expected"):
        read_digested(file, digest_of(b"weights"), 100)


def test_a_write_makes_its_folder_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "a" / "b" / "file"
    write_atomic(file, b"one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert [each.name for each in file.parent.iterdir()] == ["file"]


def test_attack_power_fails_before_the_switch(tmp_path, monkeypatch):
    """The new bytes are written, the name is not yet moved: the old file must still stand."""
    file = tmp_path / "file"
    write_atomic(file, b"old")

    def fails(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UsageError, match="No space left on device"):
        write_atomic(file, b"new" * 1000)
    assert file.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_reader_that_was_first_keeps_the_old_bytes(tmp_path):
    file = tmp_path / "file"
    write_atomic(file, b"old")
    with file.open("rb") as reader:
        write_atomic(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(UsageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "inside", b"x")
    with pytest.raises(UsageError, match="cannot write"):
        write_atomic(tmp_path, b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"not a folder"


def test_a_secret_is_never_readable_by_others(tmp_path, monkeypatch):
    """Not even for the moment between its first byte and a chmod."""
    modes = []
    real = os.fsync

    def looked_at(handle):
        modes.append(os.fstat(handle).st_mode & 0o777)
        real(handle)

    monkeypatch.setattr(os, "fsync", looked_at)
    write_atomic(tmp_path / "secret", b"key", mode=0o600)
    assert modes[0] == 0o600
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
