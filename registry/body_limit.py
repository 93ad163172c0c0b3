"""Refuse request bodies that are too long before anything reads them."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware: a body over ``max_bytes`` is answered 413 and not kept.

    The body is read here up to the bound, whatever Content-Length says, and handed on whole.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            words = f"the body holds more than {self._max_bytes >> 10} KiB"
            refusal = {"error": words, "cure": "send fewer vectors in one request"}
            response = JSONResponse(refusal, status_code=413, headers={"Connection": "close"})
            await response(scope, receive, send)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None when it is longer than the bound."""
        parts: list[bytes] = []
        n_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            n_bytes += len(parts[-1])
            if n_bytes > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)
