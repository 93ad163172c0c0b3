"""The port of storage: named bytes, each with a version that a conditional write compares."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from compat.errors import ConflictError, NotFoundError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9][A-Za-z0-9._-]{0,199})*")
MAX_NAME = 900  # of what S3 takes, 1024, the prefix needs some


@dataclass(frozen=True)
class Stat:
    """What a store knows of a name without reading its bytes."""

    size_bytes: int
    version: str  # equal only while the bytes are; opaque to the caller


@dataclass(frozen=True)
class Stored:
    """Bytes and the version they had when they were read."""

    blob: bytes
    version: str


class Store(Protocol):
    """Named bytes; every read bounded, every write whole or not at all.

    Every method raises OfflineError when the store does not answer; UsageError when the name is no
    name, the store refuses the caller, or the bytes are longer than the bound.
    """

    def get(self, name: str, *, max_bytes: int) -> Stored:
        """The bytes of ``name``; NotFoundError when there are none."""

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        """At most ``n_bytes`` from ``start``, both in bytes; fewer at the end, none behind it."""

    def stat(self, name: str) -> Stat | None:
        """Size and version; None when there is no such name."""

    def size(self, name: str) -> int | None:
        """Size in bytes, cheaper than `stat` where the version would be; None when not there."""

    def put_new(self, name: str, blob: bytes) -> str:
        """Store under a new name and return its version; the same bytes again are fine.

        Raises:
            ConflictError: the name holds other bytes, which stay. Remedy: load and retry.
        """

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        """Store over the bytes of version ``expected`` and return the new version.

        Raises:
            ConflictError: the name is of another version or gone. Remedy: load and retry.
        """

    def list(self, prefix: str) -> tuple[str, ...]:
        """Names that start with ``prefix``, sorted."""

    def delete(self, name: str) -> None:
        """Remove ``name``; fine when it is not there."""

    def sweep(self, before: datetime) -> tuple[str, ...]:
        """Remove what writes that broke off before then left unseen; the names they were for."""


def check_name(name: str) -> None:
    """Raise UsageError unless ``name`` is safe in every store: no ``..``, no leading dot."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:MAX_NAME]!r} is no name of a stored file: use letters, digits, . _ - and /"
        )


def check_range(start: int, n_bytes: int) -> None:
    if start < 0 or n_bytes < 1:
        raise UsageError(f"no range of {n_bytes} bytes from {start}: ask for 1 or more from 0 on")


def not_found(name: str) -> NotFoundError:
    return NotFoundError(f"the store holds no {name}: check the registry's address")


def too_long(name: str, max_bytes: int) -> UsageError:
    return UsageError(f"{name} holds more than {max_bytes} bytes; refusing to read it")


def conflict(name: str) -> ConflictError:
    return ConflictError(f"another publisher wrote {name} first: nothing was overwritten; retry")
