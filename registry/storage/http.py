"""Storage behind a kinspace service: its files by HTTP, put under a token.

Reads are what devices do; writes need a token (docs/http.md). The version is the ETag. Caches on
the way are told to ask the service: a publisher decides on what is there now.
"""

import json
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from compat.errors import KinspaceError, NotFoundError, OfflineError, RefusedError, UsageError
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

TOKEN_ENV = "KINSPACE_TOKEN"
TRIES = 5  # of a request that is told to wait
MAX_WAIT_S = 10.0
CHUNK_BYTES = 2**18
MAX_LIST_BYTES = 2**26
MAX_REFUSAL_BYTES = 2**16
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpStore:
    """The registry at ``url``: the address that devices are given."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {
            "User-Agent": "kinspace",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(60, connect=10))
        weakref.finalize(self, self._client.close)

    def __str__(self) -> str:
        return self._url

    def get(self, name: str, *, max_bytes: int) -> Stored:
        with self._at("GET", name) as answer:
            blob = _bounded(answer, name, max_bytes)
            return Stored(blob, answer.headers["ETag"])

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        check_range(start, n_bytes)
        wanted = {"Range": f"bytes={start}-{start + n_bytes - 1}"}
        with self._at("GET", name, headers=wanted) as answer:
            if answer.status_code == 416:
                return b""
            if answer.status_code != 206:
                raise UsageError(f"{self} does not serve parts of files: name the registry itself")
            return _bounded(answer, name, n_bytes)

    def size(self, name: str) -> int | None:
        found = self.stat(name)
        return found.size_bytes if found else None

    def stat(self, name: str) -> Stat | None:
        try:
            with self._at("HEAD", name) as answer:
                return Stat(int(answer.headers["Content-Length"]), answer.headers["ETag"])
        except NotFoundError:
            return None

    def put_new(self, name: str, blob: bytes) -> str:
        there = self.stat(name)
        if there and (there.size_bytes, there.version) == (len(blob), f'"{digest_of(blob)}"'):
            return there.version  # what is there already is not sent again
        return self._put(name, blob, {"If-None-Match": "*"})

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        return self._put(name, blob, {"If-Match": expected})

    def list(self, prefix: str) -> tuple[str, ...]:
        with self._asked("GET", self._url, prefix, params={"prefix": prefix}) as answer:
            names: list[str] = json.loads(_bounded(answer, "the list of names", MAX_LIST_BYTES))[
                "names"
            ]
            return tuple(names)

    def delete(self, name: str) -> None:
        check_name(name)
        raise UsageError(f"{self._url} deletes nothing: go to the store that it serves")

    def sweep(self, before: datetime) -> tuple[str, ...]:
        raise UsageError(f"{self._url} sweeps nothing: go to the store that it serves")

    def _put(self, name: str, blob: bytes, condition: dict[str, str]) -> str:
        with self._at("PUT", name, content=blob, headers=condition) as answer:
            return answer.headers["ETag"]

    def _at(self, method: str, name: str, **asked: Any) -> AbstractContextManager[httpx.Response]:
        check_name(name)
        return self._asked(method, f"{self._url}/{name}", name, **asked)

    @contextmanager
    def _asked(self, method: str, url: str, name: str, **asked: Any) -> Iterator[httpx.Response]:
        """An answer of 200 to 206 or 416; every other one is an error of ours, 429 after a wait."""
        try:
            for _ in range(TRIES):
                with self._client.stream(method, url, **asked) as answer:
                    if answer.status_code != 429:
                        if not answer.is_success and answer.status_code != 416:
                            raise _refused(
                                answer.status_code, name, f"{self._url}: {_words(answer)}"
                            )
                        yield answer
                        return
                    wait = answer.headers.get("Retry-After", "1")
                time.sleep(min(float(wait) if wait.isdecimal() else 1.0, MAX_WAIT_S))
        except httpx.HTTPError as error:
            raise OfflineError(f"no answer from {self._url}: {error}") from error
        raise OfflineError(f"{self._url} is busy with others: try later")


def check_url(url: str, token: str | None) -> None:
    """Return when ``url`` may be opened: no token in the clear. Raises UsageError."""
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.username:
        raise UsageError("a served registry's address is https://host/registry, nothing more")
    if token and parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise UsageError(f"{TOKEN_ENV} would travel in the clear to {url}: use https://")


def _refused(status: int, name: str, words: str) -> KinspaceError:
    if status == 404:
        return not_found(name)
    if status in (409, 412):
        return conflict(name)
    if status == 422:
        return RefusedError(words)
    if status >= 500:
        return OfflineError(words)
    return UsageError(words)


def _words(answer: httpx.Response) -> str:
    """Why the service refused: its own words when it is one of ours."""
    try:
        refusal = json.loads(_bounded(answer, "a refusal", MAX_REFUSAL_BYTES))
        return f"{refusal['error']} (HTTP {answer.status_code})"
    except (ValueError, KeyError, TypeError, UsageError):
        return f"it answered HTTP {answer.status_code}"


def _bounded(answer: httpx.Response, name: str, max_bytes: int) -> bytes:
    blob = bytearray()
    for piece in answer.iter_raw(CHUNK_BYTES):
        blob += piece
        if len(blob) > max_bytes:
            raise too_long(name, max_bytes)
    return bytes(blob)
