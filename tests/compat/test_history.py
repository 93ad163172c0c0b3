"""A history that is a chain, and every way in which it is none."""

import pytest

from compat.errors import UntrustedError
from compat.files import digest_of
from compat.history import Head, HistoryEntry, entry_target, follow
from compat.update_report import UpdateReport


def chain(*versions: str, family: str = "furniture") -> list[bytes]:
    blobs: list[bytes] = []
    for number, version in enumerate(versions, start=1):
        entry = HistoryEntry(
            family=family,
            number=number,
            previous=digest_of(blobs[-1]) if blobs else None,
            at="2026-11-25T06:00:00Z",
            verb="promote",
            channel="stable",
            version=version,
            pointer="0" * 64,
        )
        blobs.append(entry.to_bytes())
    return blobs


def head(blobs: list[bytes]) -> Head:
    return Head(len(blobs), digest_of(blobs[-1]))


def test_a_chain_is_followed_from_nothing_and_from_any_entry():
    blobs = chain("1.0.0", "1.1.0", "1.2.0")
    for seen in (None, head(blobs[:1]), head(blobs)):
        assert [each.version for each in follow("furniture", blobs, seen)] == [
            "1.0.0",
            "1.1.0",
            "1.2.0",
        ]
    assert follow("furniture", []) == []


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda blobs: [blobs[0], *chain("1.0.0", "9.9.9", "1.2.0")[1:2], blobs[2]],
        lambda blobs: [blobs[0], blobs[2]],
        lambda blobs: [blobs[1], blobs[0], blobs[2]],
        lambda blobs: blobs[1:],
        lambda blobs: chain("1.0.0", family="shoes"),
        lambda blobs: [blobs[0], b"{}"],
    ],
)
def test_attack_a_chain_that_is_broken(rewrite):
    blobs = chain("1.0.0", "1.1.0", "1.2.0")
    assert len(follow("furniture", blobs)) == 3
    with pytest.raises(UntrustedError, match=r"was rewritten|not an entry"):
        follow("furniture", rewrite(blobs))


def test_attack_a_whole_chain_that_is_not_the_one_that_was_seen():
    seen = head(chain("1.0.0", "1.1.0"))
    other = chain("1.0.0", "1.1.1", "1.2.0")
    assert len(follow("furniture", other)) == 3
    with pytest.raises(UntrustedError, match="rewritten before entry 2"):
        follow("furniture", other, seen)
    with pytest.raises(UntrustedError, match="1 entries, 2 were seen"):
        follow("furniture", chain("1.0.0"), seen)


def test_unknown_fields_survive_and_names_sort():
    blob = chain("1.0.0")[0].replace(b'"format": 1', b'"colour": "red",\n  "format": 1')
    assert b'"colour": "red"' in HistoryEntry.from_bytes(blob).to_bytes()
    assert entry_target("furniture", 2) < entry_target("furniture", 10)


@pytest.mark.parametrize("blob", [b"", b"null", b"[]", b'{"format":2}', b"[" * 10_000])
def test_attack_bytes_that_are_no_report(blob):
    with pytest.raises(UntrustedError, match="not an update report"):
        UpdateReport.from_bytes(blob)
