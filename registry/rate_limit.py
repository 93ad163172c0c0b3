"""Answer 429 to a client that asks too often, before anything reads its request."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

BURST_S = 10  # a client that was silent may ask for so many seconds' worth at once
MAX_CLIENTS = 50_000  # remembered; the one that was silent longest is forgotten first
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})  # for who watches the service


class RateLimit:
    """ASGI middleware: ``per_second`` requests of each client address, by a bucket of tokens.

    Behind a proxy the address is the one that the proxy forwards (uvicorn reads it from a proxy on
    the same machine). What is remembered is bounded, whatever addresses come.
    """

    def __init__(
        self, app: ASGIApp, *, per_second: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_S)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            client = (scope.get("client") or ("unknown", 0))[0]
            if wait_s := self._wait_s(client):
                refusal = {
                    "error": f"more than {self._per_second:g} requests a second from {client}",
                    "cure": f"ask again in {wait_s} s",
                }
                headers = {"Retry-After": str(wait_s)}
                await JSONResponse(refusal, 429, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wait_s(self, client: str) -> int:
        """Seconds until this client may ask; 0 = now, and that is counted."""
        now = self._now()
        left, seen = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - seen) * self._per_second)
        may = left >= 1
        self._buckets[client] = (left - 1 if may else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0 if may else max(1, math.ceil((1 - left) / self._per_second))
