"""Storage in a folder: atomic files, and a lock that makes a conditional write one step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from compat.errors import UsageError
from compat.files import digest_of, read_bounded, write_atomic
from edge.lock import exclusive
from registry.storage.port import (
    Stat,
    Stored,
    check_name,
    check_range,
    conflict,
    not_found,
    too_long,
)


class FileStore:
    """Files under ``folder``; the version is the SHA-256 of the bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def get(self, name: str, *, max_bytes: int) -> Stored:
        with self._border(name):
            path = self._existing(name)
            if path.stat().st_size > max_bytes:
                raise too_long(name, max_bytes)
            blob = read_bounded(path, max_bytes)
        return Stored(blob, digest_of(blob))

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        check_range(start, n_bytes)
        with self._border(name), self._existing(name).open("rb") as file:
            file.seek(start)
            return file.read(n_bytes)

    def size(self, name: str) -> int | None:
        with self._border(name):
            path = self._path(name)
            return path.stat().st_size if self._is_ours(path) else None

    def stat(self, name: str) -> Stat | None:
        with self._border(name):
            path = self._path(name)
            if not self._is_ours(path):
                return None
            size_bytes = path.stat().st_size
            return Stat(size_bytes, digest_of(read_bounded(path, size_bytes)))

    def put_new(self, name: str, blob: bytes) -> str:
        with exclusive(self.folder / ".store.lock", "another publisher"):
            there = self.stat(name)
            if there is None:
                write_atomic(self._path(name), blob)
            elif there.version != digest_of(blob):
                raise conflict(name)
        return digest_of(blob)

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        with exclusive(self.folder / ".store.lock", "another publisher"):
            there = self.stat(name)
            if there is None or there.version != expected:
                raise conflict(name)
            write_atomic(self._path(name), blob)
        return digest_of(blob)

    def list(self, prefix: str) -> tuple[str, ...]:
        start = self.folder / prefix.rpartition("/")[0]
        with self._border(prefix):
            files = [
                Path(folder, file)
                for folder, _, found in os.walk(start, onerror=_raise)
                for file in found
            ]
        names = (path.relative_to(self.folder).as_posix() for path in files)
        return tuple(sorted(n for n in names if n.startswith(prefix) and "/." not in f"/{n}"))

    def delete(self, name: str) -> None:
        with self._border(name):
            self._path(name).unlink(missing_ok=True)

    def sweep(self, before: datetime) -> tuple[str, ...]:
        """Parts of files whose writer was killed: `compat.files.write_atomic` names them so."""
        swept = []
        with self._border("."):
            for part in self.folder.rglob(".*.part"):
                if part.stat().st_mtime < before.timestamp():
                    part.unlink()
                    name = part.name.removeprefix(".").removesuffix(".part").rpartition(".")[0]
                    swept.append(part.with_name(name).relative_to(self.folder).as_posix())
        return tuple(sorted(swept))

    def _path(self, name: str) -> Path:
        check_name(name)
        return self.folder / name

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not self._is_ours(path):
            raise not_found(name)
        return path

    def _is_ours(self, path: Path) -> bool:
        """A file, and not behind a link that leads out of the folder."""
        return path.is_file() and path.resolve().is_relative_to(self.folder.resolve())

    @contextmanager
    def _border(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            words = error.strerror or error
            raise UsageError(f"cannot use {self.folder / name}: {words}") from error


def _raise(error: OSError) -> None:
    """`os.walk` is silent about folders that it cannot read; one that is not there is empty."""
    if not isinstance(error, FileNotFoundError):
        raise error
