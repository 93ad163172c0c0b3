"""Downloads that go on where they were cut off, also in another process.

A part lies under the digest of what it will be, with the ETag that its bytes came under. It is not
believed: what it becomes is verified by its caller as any download is, and a part that turns out to
be of other bytes is thrown away, never mixed.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from tuf.api.exceptions import DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from compat.files import read_bounded, write_atomic

MAX_ETAG_BYTES = 2**10
ETAG = ".etag"


@dataclass(frozen=True)
class Answer:
    """Bytes of a file from ``start`` on, and the ETag they came under."""

    start: int  # 0 when the server sends everything anew
    etag: str | None
    pieces: Iterator[bytes]


@runtime_checkable
class RangeFetcher(Protocol):
    """A fetcher that can begin in the middle."""

    def fetch_from(self, url: str, start: int, etag: str | None) -> Answer:
        """The file from ``start`` on if it is still the one of ``etag``; else all of it."""


class PartsFetcher(FetcherInterface):
    """Asks ``fetcher``; inside `keeping`, it keeps what comes and goes on from it.

    Args:
        fetcher: one that cannot begin in the middle begins anew.
        folder: where parts are kept.
    """

    def __init__(self, fetcher: FetcherInterface, folder: Path) -> None:
        self._fetcher = fetcher
        self._folder = folder
        self._part: str | None = None

    @contextmanager
    def keeping(self, part: str) -> Iterator[None]:
        """What is downloaded in here is kept as ``part``, a digest."""
        self._part = part
        try:
            yield
        finally:
            self._part = None

    def drop(self, part: str) -> None:
        (self._folder / part).unlink(missing_ok=True)

    def forget(self, *, keep: Collection[str] = ()) -> None:
        """Remove every part that ``keep`` does not name."""
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.name.removesuffix(ETAG) not in keep:
                path.unlink()

    def began(self, digest: str) -> bool:
        """Whether some of ``digest`` was kept by an earlier download."""
        path = self._folder / digest
        return path.is_file() and path.stat().st_size > 0

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As `FetcherInterface.download_file`, from the kept part on."""
        if self._part is None or not isinstance(self._fetcher, RangeFetcher):
            with self._fetcher.download_file(url, max_length) as file:
                yield file
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / self._part
        if path.is_symlink():
            path.unlink()
        with path.open("ab+") as file:
            try:
                self._complete(file, url, self._fetcher, max_length)
            except OSError:  # the disk is full: give back what the part took
                path.unlink()
                raise
            file.seek(0)
            yield file

    def _complete(self, file: IO[bytes], url: str, fetcher: RangeFetcher, max_length: int) -> None:
        tag = Path(f"{file.name}{ETAG}")
        kept = file.seek(0, os.SEEK_END)
        if kept > max_length:
            kept = file.truncate(0)
        if kept and kept == max_length:
            return  # whole already; the caller verifies it
        answer = fetcher.fetch_from(url, kept, _read(tag) if kept else None)
        if answer.start != kept:
            kept = file.truncate(0)
        if kept == 0:
            write_atomic(tag, (answer.etag or "").encode("latin-1"))
        for piece in answer.pieces:
            kept += len(piece)
            if kept > max_length:
                raise DownloadLengthMismatchError(
                    f"{url} sent {kept} bytes or more, {max_length} were signed"
                )
            file.write(piece)
        file.flush()

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._fetcher.fetch(url)


def _read(tag: Path) -> str | None:
    return read_bounded(tag, MAX_ETAG_BYTES).decode("latin-1") or None if tag.exists() else None
