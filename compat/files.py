"""Bytes on disk: every read bounded, every write atomic, every name of bytes a digest."""

import hashlib
import os
from pathlib import Path

from compat.errors import CorruptError, UsageError


def digest_of(blob: bytes) -> str:
    """SHA-256 of ``blob`` in lower-case hex (64 characters)."""
    return hashlib.sha256(blob).hexdigest()


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The whole file, if it holds at most ``max_bytes``.

    Raises:
        UsageError: it is missing, unreadable or longer. Remedy: as the message says.
    """
    try:
        with path.open("rb") as file:
            blob = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(blob) > max_bytes:
        raise UsageError(f"{path} holds more than {max_bytes} bytes; refusing to read it")
    return blob


def read_digested(path: Path, digest: str, max_bytes: int) -> bytes:
    """The file's bytes, proven to be the ones that ``digest`` names.

    Raises:
        CorruptError: they are others. Remedy: fetch them again from a trusted source.
        UsageError: see `read_bounded`.
    """
    blob = read_bounded(path, max_bytes)
    if (found := digest_of(blob)) != digest:
        raise CorruptError(f"{path} has sha256 {found[:12]}, expected {digest[:12]}: damaged")
    return blob


def write_atomic(path: Path, blob: bytes, *, mode: int = 0o666) -> None:
    """Replace ``path``: a reader, or a power cut, sees the old bytes or the new, never a mix.

    Args:
        mode: permissions from the first byte on, less the umask; 0o600 for a secret.

    Raises:
        UsageError: it cannot be written; what was there still is. Remedy: as the message says.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
