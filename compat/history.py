"""The signed history of a family's channels: one entry a change, each naming the one before.

Entries are signed targets ``FAMILY/log/<number>.json``, made in the commit that moves the pointer.
The chain of digests is what a signature alone does not give: whoever has seen an entry notices when
the past is told differently, even by the family's own key.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from compat.errors import UntrustedError
from compat.files import digest_of
from compat.manifest import Digest, Version
from compat.space import Name
from compat.wire import Document

MAX_ENTRY_BYTES = 2**14
MAX_REASON = 500
Verb = Literal["publish", "promote", "pause", "resume", "demote", "halt"]


class HistoryEntry(Document):
    """One change of one channel. Unknown fields survive."""

    CALLED: ClassVar[str] = "an entry of a history"
    format: Literal[1] = 1
    family: Name
    number: int = Field(ge=1)
    previous: Digest | None  # of the entry before, as bytes; None for the first
    at: AwareDatetime  # by the publisher's clock
    verb: Verb
    channel: Name
    version: Version  # that the verb is about
    percent: float | None = None  # of the devices, after it; None where no rollout is left
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    pointer: Digest  # of the channel file that was signed with it


class Head(NamedTuple):
    """How far somebody has read: the number of entries, and the digest of the last one."""

    number: int
    digest: str


def follow(family: str, blobs: Sequence[bytes], seen: Head | None = None) -> list[HistoryEntry]:
    """The entries in ``blobs``, the first one first, proven to be one chain.

    Args:
        seen: where the reader was before; the same entry must still stand there.

    Raises:
        UntrustedError: it is no chain, of another family, or not the one that was seen.
    """
    entries: list[HistoryEntry] = []
    previous: str | None = None
    for number, blob in enumerate(blobs, start=1):
        entry = HistoryEntry.from_bytes(blob)
        if (entry.family, entry.number, entry.previous) != (family, number, previous):
            raise UntrustedError(f"entry {number} of the history of {family} was rewritten")
        previous = digest_of(blob)
        if seen and number == seen.number and previous != seen.digest:
            raise UntrustedError(f"the history of {family} was rewritten before entry {number}")
        entries.append(entry)
    if seen and len(entries) < seen.number:
        raise UntrustedError(
            f"the history of {family} has {len(entries)} entries, {seen.number} were seen before"
        )
    return entries


def entry_target(family: str, number: int) -> str:
    return f"{family}/log/{number:06d}.json"
