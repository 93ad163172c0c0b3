"""A client that asks too often is told when to ask again; others are not held up."""

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from registry import rate_limit
from registry.rate_limit import BURST_S, RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limited(clock):
    async def fine(_):
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/{any:path}", fine)])
    return RateLimit(app, per_second=0.5, now=clock)


def ask(app, client="10.0.0.1", path="/a"):
    """Status and headers, without a socket."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    asyncio.run(app(scope | {"client": (client, 9)}, receive, send))
    headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[-1].get("body")


def test_too_many_requests_are_429_until_the_time_that_is_said(limited, clock):
    burst = int(0.5 * BURST_S)
    assert [ask(limited)[0] for _ in range(burst)] == [200] * burst
    status, headers, body = ask(limited)
    assert (status, headers["retry-after"]) == (429, "2")
    assert set(json.loads(body)) == {"error", "cure"}
    clock.now += 1.9
    assert ask(limited)[0] == 429
    clock.now += 0.2
    assert ask(limited)[0] == 200
    assert ask(limited)[0] == 429


def test_others_and_those_who_watch_are_not_held_up(limited):
    while ask(limited)[0] == 200:
        pass
    assert ask(limited, client="10.0.0.2")[0] == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(limited, path=path)[0] == 200


def test_attack_many_addresses_do_not_fill_the_memory(limited, monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_CLIENTS", 3)
    for number in range(20):
        assert ask(limited, client=f"10.0.1.{number}")[0] == 200
    assert len(limited._buckets) == 3
