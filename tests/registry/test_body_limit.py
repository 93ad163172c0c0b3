"""A body that is too long, or never comes to its end, is not waited for."""

import asyncio
import json

import pytest

from registry.body_limit import BodyLimit


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def answer(pieces, *, method="POST", max_bytes=10):
    """Status and body; a caller that has no more pieces keeps the line open and says nothing."""
    sent, left = [], list(pieces)

    async def receive():
        if not left:
            await asyncio.sleep(60)
        piece = left.pop(0)
        more = piece is not pieces[-1] or not piece.endswith(b".")
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(message):
        sent.append(message)

    app = BodyLimit(echo, max_bytes=max_bytes, max_seconds=0.2)
    asyncio.run(app({"type": "http", "method": method}, receive, send))
    return sent[0]["status"], sent[-1]["body"]


def test_a_body_is_handed_on_whole():
    assert answer([b"one ", b"two."]) == (200, b"one two.")


@pytest.mark.parametrize(
    ("pieces", "status"),
    [([b"one ", b"two"], 408), ([b"x" * 11 + b"."], 413), ([b"xxxx"] * 9, 413)],
)
def test_attack_a_body_without_an_end(pieces, status):
    found, body = answer(pieces)
    assert found == status
    assert set(json.loads(body)) == {"error", "cure"}


def test_what_is_put_is_left_to_its_route():
    assert answer([b"x" * 99 + b"."], method="PUT") == (200, b"x" * 99 + b".")
