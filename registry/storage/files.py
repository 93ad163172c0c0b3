"""Storage in a folder: atomic files, and a lock that makes a conditional write one step."""

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
        self._folder = folder

    def get(self, name: str, *, max_bytes: int) -> Stored:
        path = self._existing(name)
        if path.stat().st_size > max_bytes:
            raise too_long(name, max_bytes)
        blob = read_bounded(path, max_bytes)
        return Stored(blob, digest_of(blob))

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        check_range(start, n_bytes)
        path = self._existing(name)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(n_bytes)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error

    def stat(self, name: str) -> Stat | None:
        path = self._path(name)
        if not path.is_file():
            return None
        size_bytes = path.stat().st_size
        return Stat(size_bytes, digest_of(read_bounded(path, size_bytes)))

    def put_new(self, name: str, blob: bytes) -> str:
        with exclusive(self._folder / ".store.lock", "another publisher"):
            there = self.stat(name)
            if there is None:
                write_atomic(self._path(name), blob)
            elif there.version != digest_of(blob):
                raise conflict(name)
        return digest_of(blob)

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        with exclusive(self._folder / ".store.lock", "another publisher"):
            there = self.stat(name)
            if there is None or there.version != expected:
                raise conflict(name)
            write_atomic(self._path(name), blob)
        return digest_of(blob)

    def list(self, prefix: str) -> tuple[str, ...]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        names = (path.relative_to(self._folder).as_posix() for path in files)
        return tuple(sorted(n for n in names if n.startswith(prefix) and "/." not in f"/{n}"))

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot delete {path}: {error.strerror or error}") from error

    def _path(self, name: str) -> Path:
        check_name(name)
        return self._folder / name

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise not_found(name)
        return path
