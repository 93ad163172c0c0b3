"""The device asks; the service is a stranger: silent, slow, wordy or lying."""

import gzip
import json
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from compat.errors import OfflineError, QueryRefusedError, UntrustedError, UsageError
from edge.search import MAX_RESPONSE_BYTES, search, search_many, space_of

SPACE = "chairs/g1/4/cosine"
EMBEDDING = np.array([1.0, 0, 0, 0], dtype=np.float32)


@contextmanager
def service(*parts, pause_s=0.0):
    """Answer one request with these bytes, pausing between them; yields (url, what was asked)."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)
    asked = []

    def answer():
        connection, _ = listening.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received or (
                received.startswith(b"POST") and not received.endswith(b"}")
            ):
                received += connection.recv(65536)
            asked.append(received)
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            except OSError:
                pass  # the client has had enough

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        thread.join(timeout=10)
        listening.close()


def http(status, body, headers=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode() + body


def hits(*scores):
    return [{"id": f"i{n}", "label": "l", "path": "p", "score": s} for n, s in enumerate(scores)]


def results(*scores, space=SPACE):
    return {"space": space, "release": "1.0.0", "results": [hits(*scores)]}


def ask(url, **changes):
    options = {"space_id": SPACE, "artifact_digest": "a" * 64, "k": 3, "timeout_s": 5.0} | changes
    return search(url, EMBEDDING, **options)


def test_hits_come_back_and_only_the_vector_goes_out():
    with service(http(200, results(0.9, 0.5) | {"new_field": 1})) as (url, asked):
        found = ask(url)
    assert [(hit.id, hit.score) for hit in found] == [("i0", 0.9), ("i1", 0.5)]
    head, body = asked[0].split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /v1/search ")
    assert json.loads(body) == {
        "space": SPACE,
        "artifact": "a" * 64,
        "vectors": [[1, 0, 0, 0]],
        "k": 3,
    }


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OfflineError, match="no answer"):
        ask(f"http://127.0.0.1:{port}")


def test_silence_is_offline():
    with service(b"", pause_s=0.6) as (url, _), pytest.raises(OfflineError):
        ask(url, timeout_s=0.2)


def test_attack_the_answer_drips_for_ever():
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"] + [b" "] * 15
    began = time.monotonic()
    with service(*drip, pause_s=0.1) as (url, _), pytest.raises(OfflineError, match="finish"):
        ask(url, timeout_s=0.4)
    assert time.monotonic() - began < 3


def test_attack_the_answer_never_ends():
    endless = [b"HTTP/1.1 200 OK\r\n\r\n", b" " * (MAX_RESPONSE_BYTES + 1)]
    with service(*endless) as (url, _), pytest.raises(UntrustedError, match="answered more than"):
        ask(url)


def test_attack_a_compressed_bomb_is_not_unpacked():
    bomb = http(200, gzip.compress(b" " * 10**8), "Content-Encoding: gzip\r\n")
    with service(bomb) as (url, _), pytest.raises(UntrustedError):
        ask(url)


def test_a_refusal_carries_the_servers_words():
    refusal = {"error": "this gallery is of space x", "cure": "run kinspace device update"}
    with service(http(409, refusal)) as (url, _), pytest.raises(QueryRefusedError) as refused:
        ask(url)
    assert "this gallery is of space x" in str(refused.value)
    assert "run kinspace device update" in str(refused.value)


def test_attack_a_refusal_that_writes_on_the_terminal():
    refusal = {"error": "\x1b[2J\x1b]0;owned\x07" + "a" * 9999, "cure": "\r\nall is well"}
    with service(http(409, refusal)) as (url, _), pytest.raises(QueryRefusedError) as refused:
        ask(url)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (http(409, b"not json"), QueryRefusedError, "not json"),
        (http(409, b""), QueryRefusedError, "no words"),
        (http(422, {"error": "k", "cure": "c"}), UsageError, "422"),
        (http(404, b"nothing"), UsageError, "404"),
        (http(413, b""), UsageError, "413"),
        (http(503, b""), OfflineError, "503"),
        (http(500, {"error": "e", "cure": "c"}), OfflineError, "500"),
        (http(302, b"", "Location: http://127.0.0.1:1/\r\n"), UntrustedError, "302"),
        (http(204, b""), UntrustedError, "204"),
        (http(200, b"<html>"), UntrustedError, "something else"),
        (http(200, b"[" * 100_000), UntrustedError, "something else"),
        (http(200, {"space": SPACE}), UntrustedError, "something else"),
        (http(200, results(0.9, space="chairs/g2/4/cosine")), UntrustedError, "answered from"),
        (http(200, results(0.1, 0.9)), UntrustedError, "best in order"),
        (http(200, results(0.9, 0.8, 0.7, 0.6)), UntrustedError, "3 best"),
        (http(200, results(1.5)), UntrustedError, "score"),
        (http(200, results(float("nan"))), UntrustedError, "score"),
        (http(200, {"space": SPACE, "results": []}), UntrustedError, "0 answers"),
        (http(200, {"space": SPACE, "results": [[], []]}), UntrustedError, "2 answers"),
    ],
)
def test_what_each_answer_means(answer, error, words):
    with service(answer) as (url, _), pytest.raises(error, match=words) as raised:
        ask(url)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("url", "changes", "words"),
    [
        ("ftp://host", {}, "no URL"),
        ("host:8000", {}, "no URL"),
        ("http://host:port", {}, "no URL"),
        ("http://a..b", {}, "no URL"),
        ("http://127.0.0.1:1", {"k": 0}, "k is 0"),
        ("http://127.0.0.1:1", {"k": 101}, "k is 101"),
    ],
)
def test_a_wrong_question_is_not_sent(url, changes, words):
    with pytest.raises(UsageError, match=words):
        ask(url, **changes)


@pytest.mark.parametrize("rows", [np.zeros((1, 4)), np.ones((65, 4)), np.ones((0, 4)), np.ones(4)])
def test_bad_embeddings_are_not_sent(rows):
    with pytest.raises(UsageError):
        search_many("http://127.0.0.1:1", rows, space_id=SPACE, artifact_digest="a" * 64)


def of_generations(*rows, named):
    """An answer whose hits are of ``rows`` and which says that it searched ``named``."""
    answer = results(*[0.9] * len(rows))
    for hit, generation in zip(answer["results"][0], rows, strict=True):
        hit["generation"] = generation
    return answer | {"galleries": named, "left_out": 7}


def test_an_answer_says_what_was_left_out():
    answer = of_generations("1.0.0", "1.1.0", named=["1.0.0", "1.1.0"])
    with service(http(200, answer)) as (url, asked):
        found = search_many(
            url,
            EMBEDDING[None],
            space_id=SPACE,
            artifact_digest="a" * 64,
            galleries=["1.0.0", "1.1.0"],
            k=3,
        )
    assert (found.left_out, found.galleries) == (7, ("1.0.0", "1.1.0"))
    assert [hit.generation for hit in found.results[0]] == ["1.0.0", "1.1.0"]
    assert json.loads(asked[0].split(b"\r\n\r\n", 1)[1])["galleries"] == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (of_generations("1.0.0", "2.0.0", named=["1.0.0"]), "answered from 2.0.0"),
        (of_generations("1.0.0", named=["1.0.0", "2.0.0"]), "answered from 2.0.0"),
        (of_generations("1.0.0\x1b[2J", named=["1.0.0"]), "nobody admitted this pair"),
        (of_generations(None, named=["1.0.0"]), "one that is not named"),
        (of_generations("1.0.0", named=None), "one that is not named"),
    ],
)
def test_attack_a_row_of_a_generation_that_was_not_asked(answer, words):
    good = of_generations("1.0.0", named=["1.0.0"])
    with service(http(200, good)) as (url, _):
        assert len(ask(url, galleries=["1.0.0"])) == 1
    served = service(http(200, answer))
    with served as (url, _), pytest.raises(UntrustedError, match=words) as raised:
        ask(url, galleries=["1.0.0"])
    assert str(raised.value).isprintable()


def test_an_artifact_that_may_query_nothing_asks_nothing():
    with pytest.raises(QueryRefusedError, match="to no gallery"):
        ask("http://127.0.0.1:1", galleries=[])


def test_the_space_of_a_service():
    with service(http(200, {"space": SPACE, "more": 1})) as (url, _):
        assert space_of(url) == SPACE
    for answer, error in ((http(200, b"[]"), UntrustedError), (http(503, b""), OfflineError)):
        with service(answer) as (url, _), pytest.raises(error):
            space_of(url)
