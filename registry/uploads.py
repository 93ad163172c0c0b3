"""Put files of a registry over HTTP, under the same conditions as a store: nothing is overwritten.

``If-None-Match: *`` puts a new name, ``If-Match`` replaces the version it names. Who sends what is
the guard's decision, asked before a body is read. A few bodies are read at once, each in memory.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from compat.errors import ConflictError, OfflineError, RefusedError, UntrustedError
from registry.body_limit import MAX_SECONDS, read_body
from registry.pairing import Refusal
from registry.signed_files import HASHED, etag_of
from registry.storage.port import NAME, Store
from registry.tokens import Token
from registry.upload_guard import ForbiddenError, Guard, StrangerError

UPLOADS_AT_ONCE = 2
BUSY_S = 2  # when to ask again
MIN_BYTES_PER_S = 2**16
_SECURED: dict[str, Any] = {"security": [{"token": []}]}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Names(BaseModel):
    """Names of stored files, sorted."""

    names: tuple[str, ...]


def mount_uploads(app: FastAPI, store: Store, guard: Guard) -> None:
    """Let callers with a token list and put the files of ``store`` under ``/registry``."""
    slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
    words = {
        400: "the body broke off",
        401: "no token that holds",
        403: "the token is not for this",
        404: "no name of a stored file",
        408: "the body took too long",
        409: "somebody wrote the name first; it stays as it is",
        412: "the name is of another version than If-Match says",
        413: "the body is too long",
        422: "the bytes are not what the name says, or devices would refuse them",
        428: "neither If-Match nor If-None-Match: *",
        429: "others are uploading",
        503: "the store does not answer",
    }
    answers: dict[int | str, dict[str, Any]] = {
        code: {"model": Refusal, "description": each} for code, each in words.items()
    }

    @app.get(
        "/registry",
        tags=["publishing"],
        responses={code: answers[code] for code in (401, 503)},
        openapi_extra=_SECURED,
    )
    def names(request: Request, prefix: Annotated[str, Query(max_length=200)] = "") -> Names:
        """Names that start with a prefix."""
        with _border():
            guard.enter(request.headers.get("authorization"), "")
            return Names(names=store.list(prefix))

    @app.put(
        "/registry/{name:path}",
        tags=["publishing"],
        status_code=201,
        response_class=Response,
        responses=answers,
        openapi_extra=_SECURED | _BODY,
    )
    async def put(
        name: str,
        request: Request,
        if_match: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Put a new file, or replace the timestamp."""
        if not NAME.fullmatch(name):
            raise HTTPException(404, "that is no name of a stored file")
        with _border():
            authorization = request.headers.get("authorization")
            token = await run_in_threadpool(guard.enter, authorization, name)
        if (if_none_match == "*") == (if_match is not None):
            raise HTTPException(428, "say If-None-Match: * for a new file, or If-Match")
        if slots.locked():
            raise HTTPException(429, "others are uploading", {"Retry-After": str(BUSY_S)})
        async with slots:
            blob = await _body(request, guard.max_bytes(name))
            write = _replacing(store, name, if_match) if if_match else _adding(store, name)
            version = await run_in_threadpool(_checked, guard, token, name, blob, write)
        return Response(status_code=201, headers={"ETag": etag_of(version)})


async def _body(request: Request, max_bytes: int) -> bytes:
    length = request.headers.get("content-length", "")
    said = int(length) if length.isdecimal() and len(length) < 15 else max_bytes
    try:
        if said > max_bytes:
            raise OverflowError(f"the body holds more than {max_bytes >> 10} KiB")
        return await read_body(request.stream(), max_bytes, MAX_SECONDS + said / MIN_BYTES_PER_S)
    except OverflowError as error:
        raise HTTPException(413, str(error), {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body broke off") from error
    except TimeoutError as error:
        raise HTTPException(408, str(error), {"Connection": "close"}) from error


def _checked(
    guard: Guard, token: Token, name: str, blob: bytes, write: Callable[[bytes], str]
) -> str:
    with _border():
        guard.check(token, name, blob)
        return write(blob)


def _adding(store: Store, name: str) -> Callable[[bytes], str]:
    """Under a name that holds the digest other bytes are spoilt, and are replaced."""

    def write(blob: bytes) -> str:
        try:
            version = store.put_new(name, blob)
        except ConflictError as error:
            spoilt = store.stat(name) if HASHED.fullmatch(name) else None
            if spoilt is None:
                raise HTTPException(409, str(error)) from error
            version = store.replace(name, blob, expected=spoilt.version)
        digest = HASHED.fullmatch(name)
        return digest[1] if digest else version

    return write


def _replacing(store: Store, name: str, if_match: str) -> Callable[[bytes], str]:
    def write(blob: bytes) -> str:
        there = store.stat(name)
        if there is None or etag_of(there.version) != if_match:
            raise ConflictError(f"{name} is of another version: load it and retry")
        return store.replace(name, blob, expected=there.version)

    return write


@contextmanager
def _border() -> Iterator[None]:
    """Refusals become answers; what is our own fault stays what it is."""
    try:
        yield
    except StrangerError as error:
        raise HTTPException(401, str(error), {"WWW-Authenticate": "Bearer"}) from error
    except ForbiddenError as error:
        raise HTTPException(403, str(error)) from error
    except ConflictError as error:
        raise HTTPException(412, str(error)) from error
    except (RefusedError, UntrustedError) as error:
        raise HTTPException(422, str(error)) from error
    except OfflineError as error:
        raise HTTPException(503, "the registry's store does not answer") from error
