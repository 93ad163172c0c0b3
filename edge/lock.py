"""One writer at a time on one filesystem."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compat.errors import UsageError


@contextmanager
def exclusive(path: Path, who: str) -> Iterator[None]:
    """Hold the lock file ``path``; the system lets go of it when the process ends, however it ends.

    Raises:
        UsageError: ``who`` (another one) holds it, or it cannot be made. Remedy: wait and repeat.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{who} is at work in {path.parent}: wait for it, repeat") from error
        yield
    finally:
        os.close(handle)
