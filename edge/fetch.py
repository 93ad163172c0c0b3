"""Bytes from a registry: over HTTP with a floor for the speed, or from a local folder.

TUF bounds how much is read; this bounds how long. A server that sends a byte a second would hold a
device for ever within any time-out between bytes, so the rate is watched as well.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from compat.errors import UsageError
from edge.parts import Answer

CHUNK_BYTES = 2**18
TIMEOUT_S = 10.0  # to connect, and between two pieces
GRACE_S = 20.0  # before the rate counts
MIN_BYTES_PER_S = 1024
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')  # a weak one does not speak of bytes


def fetcher_of(registry: str) -> FetcherInterface:
    """For an http(s) URL or a local folder; anything else is UsageError."""
    scheme, separator, _ = registry.partition("://")
    if not separator:
        return FolderFetcher()
    if scheme not in ("http", "https"):
        raise UsageError(f"{registry} is neither an http(s) URL nor a local folder")
    return HttpFetcher()


class HttpFetcher(FetcherInterface):
    """GET, piece by piece as they arrive.

    Args:
        timeout_s: to connect, and between two pieces.
        grace_s: how long an answer may take whatever its rate.
    """

    def __init__(
        self,
        *,
        timeout_s: float = TIMEOUT_S,
        grace_s: float = GRACE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = urllib3.PoolManager(
            headers={"User-Agent": "kinspace", "Accept-Encoding": "identity"},
            timeout=urllib3.Timeout(timeout_s),
            retries=urllib3.Retry(0, redirect=2),
        )
        self._grace_s = grace_s
        self._now = now

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.fetch_from(url, 0, None).pieces

    def fetch_from(self, url: str, start: int, etag: str | None) -> Answer:
        """`edge.parts.RangeFetcher`: by Range, and If-Range when the server once gave an ETag."""
        started = self._now()
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and etag:
            headers["If-Range"] = etag
        response = self._answered(url, headers)
        if response.status == 416:  # it has no such place: begin anew
            response.close()
            return self.fetch_from(url, 0, None)
        resumed = response.status == 206
        if response.status != 200 and not resumed:
            response.close()
            raise DownloadHTTPError(f"{url} answered {response.status}", response.status)
        place = response.headers.get("Content-Range", "")
        if resumed and not (start and place.startswith(f"bytes {start}-")):
            response.close()
            raise DownloadError(f"{url} was asked for bytes from {start} on and sent {place!r}")
        found = response.headers.get("ETag", "")
        return Answer(
            start=start if resumed else 0,
            etag=found if STRONG_ETAG.fullmatch(found) else None,
            pieces=self._pieces(url, response, started),
        )

    def _answered(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        headers = {**self._pool.headers, **headers}
        try:
            return self._pool.request("GET", url, headers=headers, preload_content=False)
        except urllib3.exceptions.MaxRetryError as error:
            refused = isinstance(error.reason, urllib3.exceptions.NewConnectionError)
            if isinstance(error.reason, urllib3.exceptions.TimeoutError) and not refused:
                raise SlowRetrievalError(f"{url} did not answer in time") from error
            raise DownloadError(f"cannot reach {url}: {error.reason}") from error

    def _pieces(
        self, url: str, response: urllib3.BaseHTTPResponse, started: float
    ) -> Iterator[bytes]:
        received = 0
        try:
            while piece := response.read1(CHUNK_BYTES):
                received += len(piece)
                elapsed = self._now() - started
                if elapsed > self._grace_s and received < MIN_BYTES_PER_S * elapsed:
                    raise SlowRetrievalError(
                        f"{url} sent {received} bytes in {elapsed:.0f} s: too slow to go on"
                    )
                yield piece
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"{url} stopped sending") from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url} broke off: {error}") from error
        finally:
            response.close()


class FolderFetcher(FetcherInterface):
    """Reads a registry from a local folder as if a server answered."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.fetch_from(url, 0, None).pieces

    def fetch_from(self, url: str, start: int, etag: str | None) -> Answer:
        """`edge.parts.RangeFetcher`; a file that is shorter by now comes anew."""
        path = Path(url)
        if not path.is_file():
            raise DownloadHTTPError(f"there is no {path}", 404)
        start = start if start <= path.stat().st_size else 0
        return Answer(start, None, _chunks(path, start))


def _chunks(path: Path, start: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DownloadError(f"cannot read {path}: {error.strerror}") from error
