"""Bytes from a registry: over HTTP with a floor for the speed, or from a local folder.

TUF bounds how much is read; this bounds how long. A server that sends a byte a second would hold a
device for ever within any time-out between bytes, so the rate is watched as well.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from compat.errors import UsageError

CHUNK_BYTES = 2**18
TIMEOUT_S = 10.0  # to connect, and between two pieces
GRACE_S = 20.0  # before the rate counts
MIN_BYTES_PER_S = 1024


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
        started = self._now()
        try:
            response = self._pool.request("GET", url, preload_content=False)
        except urllib3.exceptions.MaxRetryError as error:
            refused = isinstance(error.reason, urllib3.exceptions.NewConnectionError)
            if isinstance(error.reason, urllib3.exceptions.TimeoutError) and not refused:
                raise SlowRetrievalError(f"{url} did not answer in time") from error
            raise DownloadError(f"cannot reach {url}: {error.reason}") from error
        if response.status != 200:
            response.close()
            raise DownloadHTTPError(f"{url} answered {response.status}", response.status)
        return self._pieces(url, response, started)

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
        path = Path(url)
        if not path.is_file():
            raise DownloadHTTPError(f"there is no {path}", 404)
        return _chunks(path)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DownloadError(f"cannot read {path}: {error.strerror}") from error
