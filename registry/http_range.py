"""What a conditional or ranged GET asks for: decided from its headers, nothing is read here.

RFC 9110, sections 13 and 14. One range at a time: several are answered with the whole, as the RFC
allows; so is a header that cannot be read. Entity tags are strong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Part:
    """``n_bytes`` from ``start`` of ``size_bytes``, and the status that says so."""

    start: int
    n_bytes: int
    size_bytes: int
    status: int = 206

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.start + self.n_bytes - 1}/{self.size_bytes}"


def part_of(headers: Mapping[str, str], etag: str, size_bytes: int, *, method: str = "GET") -> Part:
    """What to send: 200 the whole, 206 a part, 304 or 416 nothing.

    Args:
        headers: of the request, by lower-case name.
        method: GET or HEAD, which knows no ranges.
        etag: the entity tag of what is here, quoted.
    """
    if _lists(headers.get("if-none-match"), etag):
        return Part(0, 0, size_bytes, 304)
    whole = Part(0, size_bytes, size_bytes, 200)
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or method != "GET" or headers.get("if-range", etag).strip() != etag:
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:  # the last so many
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return whole
    if start >= end:
        return Part(0, 0, size_bytes, 416)
    return Part(start, end - start, size_bytes)


def _lists(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the entity tag; weak comparison, as for GET it must be."""
    if header is None:
        return False
    named = {each.strip().removeprefix("W/") for each in header.split(",")}
    return etag in named or header.strip() == "*"
