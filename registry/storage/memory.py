"""Storage in memory: the twin of the real stores, for tests and dry runs."""

from datetime import datetime
from threading import Lock

from compat.files import digest_of
from registry.storage.port import (
    Stat,
    Stored,
    check_name,
    check_range,
    conflict,
    not_found,
    too_long,
)


class MemoryStore:
    """Bytes in a dict; the version is their SHA-256."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = Lock()

    def __str__(self) -> str:
        return "memory"

    def get(self, name: str, *, max_bytes: int) -> Stored:
        blob = self._blob(name)
        if len(blob) > max_bytes:
            raise too_long(name, max_bytes)
        return Stored(blob, digest_of(blob))

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        check_range(start, n_bytes)
        return self._blob(name)[start : start + n_bytes]

    def stat(self, name: str) -> Stat | None:
        check_name(name)
        blob = self._blobs.get(name)
        return None if blob is None else Stat(len(blob), digest_of(blob))

    def size(self, name: str) -> int | None:
        check_name(name)
        blob = self._blobs.get(name)
        return None if blob is None else len(blob)

    def put_new(self, name: str, blob: bytes) -> str:
        check_name(name)
        with self._lock:
            if self._blobs.setdefault(name, blob) != blob:
                raise conflict(name)
        return digest_of(blob)

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        check_name(name)
        with self._lock:
            if name not in self._blobs or digest_of(self._blobs[name]) != expected:
                raise conflict(name)
            self._blobs[name] = blob
        return digest_of(blob)

    def list(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._blobs if name.startswith(prefix)))

    def delete(self, name: str) -> None:
        check_name(name)
        self._blobs.pop(name, None)

    def sweep(self, before: datetime) -> tuple[str, ...]:
        return ()

    def _blob(self, name: str) -> bytes:
        check_name(name)
        if name not in self._blobs:
            raise not_found(name)
        return self._blobs[name]
