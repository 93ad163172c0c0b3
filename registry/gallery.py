"""The gallery index: embeddings with their space, searched exactly, on LanceDB (docs/adr/0007).

A gallery folder holds one table per embedding space. The space id and the digest of the model that
embedded are stamped on the table and on every row; a table or a row that says otherwise is not
searched. `build` commits a whole new version of the table at once: readers, and an interrupted
build, keep the old one. An open `Gallery` stays on the version that it opened.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compat.embedding import unit_rows
from compat.errors import CorruptError, SpaceError, UsageError
from compat.preprocess import Floats
from compat.space import EmbeddingSpace

MAX_K = 1000
MAX_TEXT_CHARS = 1024  # of a path or a label
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  # safe in a URL and in a filter
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRITE_ROWS = 4096
_SEARCH_QUERIES = 64
_KEEP_VERSIONS = timedelta(days=7)  # open readers finish on the version that they opened
_COLUMNS = ("id", "path", "label", "space", "model_digest")

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class GalleryRow:
    """One gallery item: ``path`` is relative to the image folder."""

    id: str
    path: str
    label: str


@dataclass(frozen=True)
class GalleryHit(GalleryRow):
    """A gallery item that was found; ``score`` is the cosine in [-1, 1], higher is closer."""

    score: float


@dataclass(frozen=True)
class GalleryStatus:
    """What one table holds."""

    space_id: str
    model_digest: str
    rows: int
    version: int  # +1 with every build


def build(
    folder: Path,
    embeddings: npt.NDArray[Any],
    rows: Sequence[GalleryRow],
    *,
    space: EmbeddingSpace,
    model_digest: str,
    progress: Progress | None = None,
) -> GalleryStatus:
    """Write the gallery of ``space``, replacing the one before it in a single commit.

    Args:
        folder: where the galleries are; made when missing.
        embeddings: (G, D), D = ``space.dim``; rows are scaled to L2 norm 1.
        rows: G items with distinct ids, in the order of ``embeddings``.
        space: what the embeddings are of.
        model_digest: sha256 of the gallery model's artifact that made them.
        progress: called with (rows written, G).

    Raises:
        UsageError: a bad shape, value or id, or the folder cannot be written. The old gallery,
            if any, is as it was; correct the input and build again.
    """
    unit = _checked(embeddings, rows, space, model_digest)
    order = sorted(range(len(rows)), key=lambda at: rows[at].id)
    schema = _schema(space, model_digest)
    name = _table_name(space.id)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(order), _WRITE_ROWS):
            picked = order[start : start + _WRITE_ROWS]
            columns = [
                pa.array([getattr(rows[at], each) for at in picked]) for each in _COLUMNS[:3]
            ]
            columns += [pa.array([each] * len(picked)) for each in (space.id, model_digest)]
            flat = pa.array(unit[picked].ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, space.dim))
            yield pa.record_batch(columns, schema=schema)
            if progress is not None:
                progress(start + len(picked), len(order))

    with _border(UsageError, f"cannot write the gallery {folder}; the old one is as it was"):
        folder.mkdir(parents=True, exist_ok=True)
        database = lancedb.connect(folder)
        mode = "overwrite" if name in database.list_tables().tables else "create"
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        table = database.create_table(name, reader, mode=mode)
        table.optimize(cleanup_older_than=_KEEP_VERSIONS)
    return Gallery.open(folder, space.id).status


def status(folder: Path) -> tuple[GalleryStatus, ...]:
    """What each gallery in ``folder`` holds, by space id. Raises as `Gallery.open`."""
    opened = (Gallery._open_table(folder, name) for name in _table_names(folder))
    return tuple(sorted((each.status for each in opened), key=lambda found: found.space_id))


@dataclass(frozen=True)
class Gallery:
    """One version of one space's table, open for reading."""

    status: GalleryStatus
    dim: int
    _table: Any

    @classmethod
    def open(cls, folder: Path, space_id: str | None = None) -> Self:
        """Open the gallery of ``space_id``, or the only one there is.

        Raises:
            SpaceError: the folder holds galleries, none of this space. Remedy: build this one.
            UsageError: it holds none, or several and no space was named. Remedy: in the message.
            CorruptError: what is stored cannot be read or belies its stamps. Remedy: rebuild.
        """
        names = _table_names(folder)
        if space_id is not None:
            name = _table_name(space_id)
            if name not in names:
                held = ", ".join(each.space_id for each in status(folder))
                raise SpaceError(
                    f"{folder} is a gallery of space {held}, not of {space_id}: build it with "
                    "kinspace gallery build, with a release of that space"
                )
        elif len(names) > 1:
            raise UsageError(f"{folder} holds galleries of {len(names)} spaces: name one")
        else:
            name = names[0]
        found = cls._open_table(folder, name)
        if space_id not in (None, found.status.space_id):
            raise CorruptError(f"{folder}/{name} says it is of {found.status.space_id}: rebuild it")
        return found

    @classmethod
    def _open_table(cls, folder: Path, name: str) -> Self:
        with _border(CorruptError, f"the gallery {folder}/{name} is damaged; build it again"):
            table = lancedb.connect(folder).open_table(name)
            stamps, rows, version = table.schema.metadata or {}, table.count_rows(), table.version
            dim = table.schema.field("vector").type.list_size
        space_id, digest = stamps.get(b"space", b"").decode(), stamps.get(b"model_digest", b"")
        if _table_name(space_id) != name or not _DIGEST.fullmatch(digest.decode()):
            raise CorruptError(f"{folder}/{name} has no space id that it can be: build it again")
        return cls(GalleryStatus(space_id, digest.decode(), rows, version), dim, table)

    def search(self, embeddings: npt.NDArray[Any], k: int) -> tuple[tuple[GalleryHit, ...], ...]:
        """The exact ``k`` nearest by cosine, best first, ties by id: (Q, D) -> Q x min(k, G).

        Raises:
            UsageError: a wrong shape, a row without direction, or ``k`` outside 1..`MAX_K`.
            CorruptError: a row is stamped with another space or model. Remedy: rebuild.
        """
        if not 1 <= k <= MAX_K:
            raise UsageError(f"k is {k}: ask for 1 to {MAX_K}")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise UsageError(f"query embeddings must be (Q, {self.dim}), got {embeddings.shape}")
        unit = _unit(embeddings, "query embeddings")
        hits: list[tuple[GalleryHit, ...]] = []
        for start in range(0, len(unit), _SEARCH_QUERIES):
            hits += self._exact(unit[start : start + _SEARCH_QUERIES], k)
        return tuple(hits)

    def row(self, item_id: str) -> GalleryRow | None:
        """The item of that id, if there is one."""
        if not _ID.fullmatch(item_id):
            return None
        with _border(CorruptError, "the gallery cannot be read; build it again"):
            query = self._table.search().where(f"id = '{item_id}'").select(["id", "path", "label"])
            found = query.limit(1).to_arrow().to_pylist()
        return GalleryRow(**found[0]) if found else None

    def vectors(self, ids: Sequence[str]) -> Floats:
        """The stored embeddings of ``ids``, in their order: (N, D).

        Raises:
            UsageError: an id is not in this gallery. Remedy: build it from this data set.
            CorruptError: the table cannot be read. Remedy: rebuild.
        """
        for each in ids:
            if not _ID.fullmatch(each):
                raise UsageError(f"gallery id {each!r} must be 1 to 128 of A-Z a-z 0-9 . _ -")
        wanted = ", ".join(f"'{each}'" for each in ids)
        with _border(CorruptError, "the gallery cannot be read; build it again"):
            query = self._table.search().where(f"id IN ({wanted})").select(["id", "vector"])
            found = query.limit(len(ids)).to_arrow().to_pylist()
        stored = {row["id"]: row["vector"] for row in found}
        if missing := [each for each in ids if each not in stored]:
            raise UsageError(
                f"{len(missing)} of {len(ids)} images are not in the gallery, the first has id "
                f"{missing[0]}: build it from this data set"
            )
        return np.asarray([stored[each] for each in ids], dtype=np.float32)

    def _exact(self, unit: Floats, k: int) -> list[tuple[GalleryHit, ...]]:
        """(Q, D) -> Q results. Lance cuts ties at the k-th place anyhow, so fetch past them."""
        limit = min(k + 1, self.status.rows)
        while True:
            ranked = self._nearest(unit, limit)
            cut = any(found[k - 1][0] == found[-1][0] for found in ranked if len(found) > k)
            if not cut or limit == self.status.rows:
                return [tuple(hit for _, _, hit in found[:k]) for found in ranked]
            limit = min(limit * 4, self.status.rows)

    def _nearest(self, unit: Floats, limit: int) -> list[list[tuple[float, str, GalleryHit]]]:
        """(Q, D) -> for each query its ``limit`` nearest as (distance, id, hit), sorted."""
        with _border(CorruptError, "the gallery cannot be searched; build it again"):
            query = self._table.search(list(unit), vector_column_name="vector")
            query = query.distance_type("cosine").bypass_vector_index()
            found = query.select([*_COLUMNS, "_distance"]).limit(limit).to_arrow()
        stamps = {"space": self.status.space_id, "model_digest": self.status.model_digest}
        for column, stamp in stamps.items():
            if pc.unique(found[column]).to_pylist() != [stamp]:
                raise CorruptError(f"the gallery holds rows of another {column}: build it again")
        ranked: list[list[tuple[float, str, GalleryHit]]] = [[] for _ in unit]
        for row in found.to_pylist():
            score = min(1.0, max(-1.0, 1.0 - row["_distance"]))
            hit = GalleryHit(row["id"], row["path"], row["label"], score)
            ranked[row.get("query_index", 0)].append((row["_distance"], row["id"], hit))
        return [sorted(each, key=lambda entry: entry[:2]) for each in ranked]


def _checked(
    embeddings: npt.NDArray[Any], rows: Sequence[GalleryRow], space: EmbeddingSpace, digest: str
) -> Floats:
    """(G, D) -> unit rows, when everything about them may be stored."""
    if embeddings.ndim != 2 or embeddings.shape[1] != space.dim:
        raise UsageError(
            f"gallery embeddings must be (G, {space.dim}) for space {space.id}, "
            f"got {embeddings.shape}: embed with a model of that space"
        )
    if not rows:
        raise UsageError("the gallery is empty: give it at least one image")
    if len(rows) != len(embeddings):
        raise UsageError(f"{len(rows)} gallery rows for {len(embeddings)} embeddings: pair them")
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest!r} is no sha256: name the artifact that embedded the gallery")
    seen: set[str] = set()
    for row in rows:
        if not _ID.fullmatch(row.id):
            raise UsageError(f"gallery id {row.id!r} must be 1 to 128 of A-Z a-z 0-9 . _ -")
        if row.id in seen:
            raise UsageError(f"gallery id {row.id!r} stands twice: ids must be distinct")
        if max(len(row.path), len(row.label)) > MAX_TEXT_CHARS:
            raise UsageError(f"path or label of gallery item {row.id} exceeds {MAX_TEXT_CHARS}")
        seen.add(row.id)
    return _unit(embeddings, "gallery embeddings")


def _unit(raw: npt.NDArray[Any], what: str) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # judged by the norm, one line below
        return unit_rows(raw, what)


def _schema(space: EmbeddingSpace, model_digest: str) -> pa.Schema:
    fields = [pa.field(name, pa.string(), nullable=False) for name in _COLUMNS]
    fields.append(pa.field("vector", pa.list_(pa.float32(), space.dim), nullable=False))
    return pa.schema(fields, metadata={"space": space.id, "model_digest": model_digest})


def _table_name(space_id: str) -> str:
    """One to one: generation, dim and score are the last three parts, whatever the family."""
    return space_id.replace("/", "-")


def _table_names(folder: Path) -> list[str]:
    names: list[str] = []
    if folder.is_dir():
        with _border(CorruptError, f"the gallery folder {folder} cannot be read"):
            names = sorted(lancedb.connect(folder).list_tables().tables)
    if not names:
        raise UsageError(f"{folder} holds no gallery: make one with kinspace gallery build")
    return names


@contextmanager
def _border(error_class: type[UsageError] | type[CorruptError], what: str) -> Iterator[None]:
    """Lance and Arrow speak in builtin exceptions; ours leave here."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, pa.ArrowException) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise error_class(f"{what} ({words})") from error
