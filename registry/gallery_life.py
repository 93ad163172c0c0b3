"""What happens to a gallery after it was built: rows get a new generation, or their old one back.

`begin` tags the version that a backfill starts from; `replace_rows` commits a batch of rows as
another model embedded them; `roll_back` makes the tagged version the newest again, row for row.
LanceDB keeps the files of a tagged version, so a gallery that may be rolled back needs the room of
both; `accept` gives it up (docs/adr/0020).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy.typing as npt

from compat.errors import CorruptError, RefusedError, UsageError
from compat.space import EmbeddingSpace
from registry.gallery import (
    Gallery,
    GalleryRow,
    border,
    checked_rows,
    one_writer,
    record_batch,
    table_name,
)

_TAG = "before-"
_DIGITS = 16  # of a model digest in a tag
_KEEP_VERSIONS = timedelta(days=7)


@dataclass(frozen=True)
class RolledBack:
    """The state before a backfill, which is the newest one again."""

    space_id: str
    undone: str  # first digits of the model digest whose backfill was undone
    rows: int
    content_digest: str


def begin(gallery: Gallery, model_digest: str) -> Gallery:
    """The version that a backfill to ``model_digest`` starts from; tagged, so that it is kept.

    One that is half done keeps its start. The caller holds `one_writer`.
    """
    tag = _newest_tag(gallery)
    if tag is None or _undone(tag) != model_digest[:_DIGITS]:
        tag = f"{_TAG}{model_digest[:_DIGITS]}-{gallery.status.version}"
        with border(UsageError, f"cannot write the gallery {gallery.folder}"):
            _table(gallery).tags.create(tag, gallery.status.version)
    return _tagged(gallery, tag)


def replace_rows(
    gallery: Gallery,
    rows: Sequence[GalleryRow],
    embeddings: npt.NDArray[Any],
    *,
    space: EmbeddingSpace,
    model_digest: str,
) -> Gallery:
    """Commit ``rows``, which the gallery holds, as ``model_digest`` embedded them: (N, D).

    All of them in one commit: a reader, or a process that is killed, sees all or none.

    Raises:
        UsageError: a bad shape or value; nothing was written.
        CorruptError: the gallery does not hold one row for each id. Remedy: build it again.
    """
    unit = checked_rows(embeddings, rows, space, model_digest)
    batch = record_batch(rows, unit, space=space, model_digest=model_digest)
    with border(
        UsageError, f"cannot write the gallery {gallery.folder}; its rows are as they were"
    ):
        table = _table(gallery)
        merged = table.merge_insert("id").when_matched_update_all().execute(batch)
    if merged.num_updated_rows != len(rows):
        raise CorruptError(
            f"{merged.num_updated_rows} rows of the gallery {gallery.folder} have the ids of "
            f"{len(rows)} items: roll it back, then build it again"
        )
    return Gallery.open(gallery.folder, space.id)


def settle(gallery: Gallery) -> None:
    """After a backfill: few files instead of one a batch. What is tagged is kept."""
    with border(UsageError, f"cannot compact the gallery {gallery.folder}; it is whole"):
        _table(gallery).optimize()


def roll_back(folder: Path, space_id: str | None = None) -> RolledBack:
    """Make the state before the last backfill the newest one again, whole or half done as it is.

    Readers of another version are not disturbed. Safe to repeat when it was killed.

    Raises:
        UsageError: no backfill is there to undo, or another writer is at work.
        RefusedError: the rows that came back are not the ones that were tagged.
    """
    with one_writer(folder):
        gallery = Gallery.open(folder, space_id)
        tag = _newest_tag(gallery)
        if tag is None:
            raise UsageError(
                f"no backfill of {gallery.status.space_id} in {folder} is there to be undone"
            )
        before = content_digest(_tagged(gallery, tag))
        with border(UsageError, f"cannot write the gallery {folder}"):
            table = _table(gallery)
            table.checkout(tag)
            table.restore()
        restored = Gallery.open(folder, gallery.status.space_id)
        after = content_digest(restored)
        if after != before:
            raise RefusedError(
                f"{folder} holds {after[:12]} after the rollback and held {before[:12]} before the "
                f"backfill: something else wrote to it; build it again"
            )
        with border(UsageError, f"cannot write the gallery {folder}"):
            _table(restored).tags.delete(tag)
    return RolledBack(restored.status.space_id, tag.removeprefix(_TAG), restored.status.rows, after)


def accept(folder: Path, space_id: str | None = None) -> int:
    """Give up every way back and the room that it takes; how many ways there were.

    Raises UsageError: a backfill is at work.
    """
    with one_writer(folder):
        gallery = Gallery.open(folder, space_id)
        with border(UsageError, f"cannot write the gallery {folder}"):
            table = _table(gallery)
            tags = _tags(table)
            for tag in tags:
                table.tags.delete(tag)
            table.optimize(cleanup_older_than=_KEEP_VERSIONS)
    return len(tags)


def content_digest(gallery: Gallery) -> str:
    """SHA-256 over every row by id: its texts, its stamps and the bytes of its embedding."""
    rows, vectors, stamps = gallery.items()
    digest = hashlib.sha256(gallery.status.space_id.encode())
    for row, vector, stamp in zip(rows, vectors, stamps, strict=True):
        for text in (row.id, row.path, row.label, stamp):
            digest.update(len(text.encode()).to_bytes(4, "big") + text.encode())
        digest.update(vector.tobytes())
    return digest.hexdigest()


def _table(gallery: Gallery) -> Any:
    """The newest version, for writing."""
    return lancedb.connect(gallery.folder).open_table(table_name(gallery.status.space_id))


def _undone(tag: str) -> str:
    """First digits of the model digest whose backfill began at ``tag``."""
    return tag.removeprefix(_TAG).partition("-")[0]


def _tags(table: Any) -> dict[str, int]:
    """Version by tag, of the backfills that can be undone."""
    found = table.tags.list().items()
    return {name: each["version"] for name, each in found if name.startswith(_TAG)}


def _newest_tag(gallery: Gallery) -> str | None:
    with border(CorruptError, f"the gallery {gallery.folder} cannot be read"):
        tags = _tags(_table(gallery))
    return max(tags, key=lambda each: tags[each]) if tags else None


def _tagged(gallery: Gallery, tag: str) -> Gallery:
    with border(CorruptError, f"the gallery {gallery.folder} cannot be read at {tag}"):
        table = _table(gallery)
        table.checkout(tag)
    return Gallery.of_table(table, gallery.folder, table_name(gallery.status.space_id))
