"""Read a family's history as anybody may, and notice when the past is told differently."""

import json
from collections.abc import Iterator
from pathlib import Path

from compat.errors import CorruptError
from compat.files import digest_of, read_bounded, write_atomic
from compat.history import MAX_ENTRY_BYTES, Head, HistoryEntry, entry_target, follow
from compat.wire import canonical_json
from edge.lock import exclusive
from edge.trusted import TrustedFiles

MAX_HEAD_BYTES = 2**12
MAX_ENTRIES = 100_000


def read_history(registry: str, root: bytes, family: str, cache: Path) -> list[HistoryEntry]:
    """Every move of the channels of ``family``, the first one first; empty when there is none.

    Args:
        registry: http(s) URL or local folder.
        root: the trusted root metadata.
        cache: where what was seen is remembered, apart for each registry and root.

    Raises:
        UntrustedError: the history is no chain, or another one than was seen before: somebody who
            holds the family's key rewrites the past. Alert.
        OfflineError, UsageError: see `TrustedFiles`.
    """
    where = registry.rstrip("/") if "://" in registry else str(Path(registry).resolve())
    home = cache / digest_of(where.encode() + root)[:16]
    with exclusive(home / ".lock", "another reader"):
        files = TrustedFiles(f"{where}/metadata/", f"{where}/targets/", home / "trust", root)
        files.refresh()
        blobs = list(_blobs(files, family))
        path = home / f"{family}.head.json"
        entries = follow(family, blobs, _read_head(path))
        if entries:
            head = {"number": len(entries), "digest": digest_of(blobs[-1])}
            write_atomic(path, canonical_json(head))
        return entries


def _blobs(files: TrustedFiles, family: str) -> Iterator[bytes]:
    for number in range(1, MAX_ENTRIES + 1):
        blob = files.read(entry_target(family, number), MAX_ENTRY_BYTES)
        if blob is None:
            return
        yield blob


def _read_head(path: Path) -> Head | None:
    if not path.exists():
        return None
    try:
        tree = json.loads(read_bounded(path, MAX_HEAD_BYTES))
        return Head(int(tree["number"]), str(tree["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path} is damaged: remove it, the history is read anew") from error
