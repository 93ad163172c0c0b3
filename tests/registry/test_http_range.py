"""Conditional and ranged GETs, by RFC 9110: the body is checked against Python's own slices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.http_range import part_of

TAG = '"a"'
BODY = bytes(range(10))


def sent(size_bytes=10, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    part = part_of(named, TAG, size_bytes)
    return part.status, BODY[part.start : part.start + part.n_bytes]


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ("bytes=0-3", BODY[:4]),
        ("bytes=4-", BODY[4:]),
        ("bytes=9-9", BODY[9:]),
        ("bytes=8-99", BODY[8:]),
        ("bytes=-3", BODY[-3:]),
        ("bytes=-99", BODY),
    ],
)
def test_a_part_is_206(asked, body):
    assert sent(range=asked) == (206, body)
    assert sent(range=asked, if_range=TAG) == (206, body)
    assert sent(range=asked, if_range='"b"') == (200, BODY)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=999999999999-"])
def test_behind_the_end_is_416(asked):
    assert sent(range=asked) == (416, b"")


@pytest.mark.parametrize(
    "asked",
    ["", "bytes=", "bytes=-", "bytes=3-1", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=-1-2",
     "bytes=0-" + "9" * 5000],
)  # fmt: skip
def test_what_cannot_be_read_is_answered_with_the_whole(asked):
    assert sent(range=asked) == (200, BODY)


@pytest.mark.parametrize(
    ("known", "status"),
    [(TAG, 304), ("*", 304), (f'W/{TAG}, "c"', 304), ('"c", "d"', 200), ("a", 200)],
)
def test_what_is_known_is_304(known, status):
    assert sent(if_none_match=known)[0] == status
    assert sent(if_none_match=known, range="bytes=0-0")[0] == (304 if status == 304 else 206)


def test_an_empty_file_has_no_part():
    assert sent(size_bytes=0) == (200, b"")
    assert sent(size_bytes=0, range="bytes=0-")[0] == 416
    assert sent(size_bytes=0, range="bytes=-5")[0] == 416


def test_the_headers_name_the_part():
    assert part_of({"range": "bytes=2-4"}, TAG, 10).content_range == "bytes 2-4/10"


@given(st.integers(0, 12), st.integers(0, 12))
def test_any_range_is_the_slice(first, last):
    status, body = sent(range=f"bytes={first}-{last}")
    if last < first:
        assert (status, body) == (200, BODY)
    elif first >= 10:
        assert (status, body) == (416, b"")
    else:
        assert (status, body) == (206, BODY[first : last + 1])
