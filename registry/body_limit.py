"""Refuse request bodies that are too long, or take too long, before anything reads them."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_SECONDS = 30.0


class BodyLimit:
    """ASGI middleware: a body over ``max_bytes`` is answered 413, a slow one 408; neither is kept.

    The body is read here up to the bounds, whatever Content-Length says, and handed on whole. What
    is put is left to its route, which asks who sends it before it reads: see `read_body`.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float = MAX_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "PUT"):
            await self._app(scope, receive, send)
            return
        try:
            body = await read_body(_pieces(receive), self._max_bytes, self._max_seconds)
        except (OverflowError, TimeoutError) as error:
            late = isinstance(error, TimeoutError)
            words = "take a faster line" if late else "send fewer vectors in one request"
            response = JSONResponse(
                {"error": str(error), "cure": words},
                status_code=408 if late else 413,
                headers={"Connection": "close"},
            )
            await response(scope, receive, send)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)


async def read_body(pieces: AsyncIterator[bytes], max_bytes: int, max_seconds: float) -> bytes:
    """The whole body.

    Raises:
        OverflowError: it is longer than ``max_bytes``.
        TimeoutError: it did not arrive within ``max_seconds``.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(max_seconds):
            async for piece in pieces:
                body += piece
                if len(body) > max_bytes:
                    raise OverflowError(f"the body holds more than {max_bytes >> 10} KiB")
    except TimeoutError as error:
        raise TimeoutError(f"the body took more than {max_seconds:.0f} s") from error
    return bytes(body)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        yield message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
