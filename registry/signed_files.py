"""Serve a registry's signed files over HTTP out of any store, and nothing else that lies in it.

Every name but one is written once: its digest or its version is part of it, so a cache may keep it
for good. ``timestamp.json`` is what changes; a cache keeps it for `FRESH_S` at most, and a missing
file not at all, for it may be published a moment later. Bodies are streamed a few MiB at a time.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse

from compat.errors import OfflineError, UsageError
from registry.http_range import Part, part_of
from registry.repository import MAX_METADATA_BYTES, TIMESTAMP
from registry.storage.port import Store, check_name

FRESH_S = 30
CHUNK_BYTES = 2**22
_METADATA = re.compile(r"metadata/(timestamp|[1-9][0-9]*\.[^/]+)\.json")
HASHED = re.compile(r"targets/(?:[^/]+/)*([0-9a-f]{64})\.[^/]+")
_BYTES: dict[str, Any] = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the whole file", "content": _BYTES["content"] | {"application/json": {}}},
    206: {"description": "the part that Range asked for", **_BYTES},
    304: {"description": "If-None-Match names what is here"},
    404: {"description": "no signed file of that name"},
    416: {"description": "Range begins behind the end"},
    503: {"description": "the store does not answer"},
}


def is_signed_file(name: str) -> bool:
    """Whether a TUF client asks for ``name``: nothing else in a store is shown to anybody."""
    return bool(HASHED.fullmatch(name) or _METADATA.fullmatch(name))


def mount_registry(
    app: FastAPI, store: Store, *, is_public: Callable[[str], bool] = is_signed_file
) -> None:
    """Serve those files of ``store`` under ``/registry/`` whose names are public."""

    @app.head("/registry/{name:path}", responses=_ANSWERS, tags=["registry"])
    def head(name: str, request: Request) -> Response:
        """What GET of the whole would say, without the bytes."""
        answer = _answer(store, name, request, is_public)
        return Response(status_code=answer.status_code, headers=answer.headers)

    @app.get(
        "/registry/{name:path}",
        response_class=StreamingResponse,
        responses=_ANSWERS,
        tags=["registry"],
    )
    def get(name: str, request: Request) -> Response:
        """A signed file, whole or the part that Range asks for."""
        return _answer(store, name, request, is_public)


def stream(store: Store, name: str, start: int, n_bytes: int) -> Iterator[bytes]:
    """``n_bytes`` of ``name`` from ``start``, a few MiB in memory at a time."""
    end = start + n_bytes
    for at in range(start, end, CHUNK_BYTES):
        yield store.get_range(name, at, n_bytes=min(CHUNK_BYTES, end - at))


def etag_of(version: str) -> str:
    """A store's version as an entity tag: S3's are quoted, a digest is not."""
    return f'"{version.strip(chr(34))}"'


def _answer(
    store: Store, name: str, request: Request, is_public: Callable[[str], bool]
) -> Response:
    try:
        check_name(name)
        if is_public(name):
            found = HASHED.fullmatch(name)
            return (
                _hashed(store, name, found[1], request) if found else _whole(store, name, request)
            )
    except OfflineError as error:
        raise HTTPException(503, "the registry's store does not answer") from error
    except UsageError as error:
        raise _missing() from error
    raise _missing()


def _hashed(store: Store, name: str, digest: str, request: Request) -> Response:
    """Its name holds its digest, so the entity tag is known and the bytes need no reading."""
    size_bytes = store.size(name)
    if size_bytes is None:
        raise _missing()
    part = part_of(request.headers, etag_of(digest), size_bytes, method=request.method)
    return _respond(name, digest, part, stream(store, name, part.start, part.n_bytes))


def _whole(store: Store, name: str, request: Request) -> Response:
    """Read whole, for the timestamp may be replaced meanwhile."""
    stored = store.get(name, max_bytes=MAX_METADATA_BYTES)
    etag, size_bytes = etag_of(stored.version), len(stored.blob)
    part = part_of(request.headers, etag, size_bytes, method=request.method)
    body = stored.blob[part.start : part.start + part.n_bytes]
    return _respond(name, stored.version, part, iter((body,)))


def _respond(name: str, version: str, part: Part, body: Iterator[bytes]) -> Response:
    headers = {"Accept-Ranges": "bytes"}
    if part.status == 416:
        headers["Content-Range"] = f"bytes */{part.size_bytes}"
        return Response(status_code=416, headers=headers)
    headers["ETag"] = etag_of(version)
    is_fixed = is_signed_file(name) and name != TIMESTAMP
    kept = "max-age=31536000, immutable" if is_fixed else f"max-age={FRESH_S}"
    headers["Cache-Control"] = f"public, {kept}"
    if part.status == 304:
        return Response(status_code=304, headers=headers)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Length"] = str(part.n_bytes)
    if part.status == 206:
        headers["Content-Range"] = part.content_range
    media_type = "application/json" if _METADATA.fullmatch(name) else "application/octet-stream"
    return StreamingResponse(body, part.status, headers, media_type)


def _missing() -> HTTPException:
    return HTTPException(404, "no signed file of that name", {"Cache-Control": "no-store"})
