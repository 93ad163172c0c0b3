"""Which packed files a release offers, and the cheapest way to a file for what a device holds.

The index is a signed target of its own beside the release: an older client never asks for it, a
release stays what it was when deltas are added, and a packed file is a blob like any other.
"""

import heapq
import itertools
from collections.abc import Collection, Iterable
from typing import ClassVar, Literal

from compat.manifest import Blob, Digest, Version
from compat.space import Name
from compat.wire import Document

MAX_INDEX_BYTES = 2**20


class PackedFile(Blob):
    """A packed file (`compat.delta`): its own digest and size, and what it leads from and to."""

    method: str  # a `compat.delta.Method`, or one of the future, which is passed over
    base: Digest | None = None  # None: it starts from nothing
    result: Blob


class DeltaIndex(Document):
    """What is offered on the way to the artifacts of one release."""

    CALLED: ClassVar[str] = "a delta index"
    format: Literal[1] = 1
    family: Name
    version: Version
    offers: tuple[PackedFile, ...]


def delta_index_target(family: str, version: str) -> str:
    return f"{family}/deltas/{version}.json"


def plan(
    wanted: Blob, held: Collection[str], offers: Iterable[PackedFile], methods: Collection[str]
) -> tuple[PackedFile, ...]:
    """The offers to fetch and unpack in turn for the fewest bytes; none = fetch ``wanted`` itself.

    One delta, a chain of them, or the compressed file: the shortest path (Dijkstra) from what is
    held, or from nothing, whose bytes are fewer than those of ``wanted``.

    Args:
        held: digests of the files that a delta may start from.
        methods: what can be unpacked here.
    """
    usable = [each for each in offers if each.method in methods]
    heap: list[
        tuple[int, int, str | None, tuple[PackedFile, ...]]
    ]  # bytes, tie, file, how it is made
    heap = [(0, tie, file, ()) for tie, file in enumerate([None, *sorted(held)])]
    ties = itertools.count(len(heap))
    done: set[str | None] = set()
    while heap:
        n_bytes, _, file, chain = heapq.heappop(heap)
        if file == wanted.digest:
            return chain
        if file in done:
            continue
        done.add(file)
        for offer in usable:
            total = n_bytes + offer.size_bytes
            if offer.base == file and total < wanted.size_bytes:
                heapq.heappush(heap, (total, next(ties), offer.result.digest, (*chain, offer)))
    return ()
