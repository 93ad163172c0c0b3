"""The gallery index: embeddings with their space, searched exactly, on LanceDB (docs/adr/0007).

A gallery folder holds one table per embedding space. The space id is stamped on the table and on
every row, and on every row the digest of the cloud artifact that embedded it: its generation. Rows
of several generations lie side by side while a gallery is re-embedded (`registry.backfill`); a
search names those that it may compare, the others are left out. `build` commits a whole new version
of the table at once: readers, and an interrupted build, keep the old one. An open `Gallery` stays
on the version that it opened.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from edge.lock import exclusive

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
    """A gallery item that was found; ``score`` is in [-1, 1], higher is closer."""

    score: float  # the cosine, calibrated as the search said
    model_digest: str  # of the generation that the row is of


@dataclass(frozen=True)
class Generation:
    """The rows that one cloud artifact embedded."""

    model_digest: str
    rows: int


@dataclass(frozen=True)
class Searchable:
    """A generation that a query may be compared with, and what makes its scores comparable."""

    model_digest: str
    scale: float = 1.0
    shift: float = 0.0  # score = scale * cosine + shift


@dataclass(frozen=True)
class GalleryStatus:
    """What one table holds."""

    space_id: str
    rows: int
    version: int  # +1 with every commit
    generations: tuple[Generation, ...]  # the one with the most rows first


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
    unit = checked_rows(embeddings, rows, space, model_digest)
    order = sorted(range(len(rows)), key=lambda at: rows[at].id)
    schema = _schema(space)
    name = table_name(space.id)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(order), _WRITE_ROWS):
            picked = order[start : start + _WRITE_ROWS]
            some = [rows[at] for at in picked]
            yield record_batch(some, unit[picked], space=space, model_digest=model_digest)
            if progress is not None:
                progress(start + len(picked), len(order))

    what = f"cannot write the gallery {folder}; the old one is as it was"
    with border(UsageError, what), one_writer(folder):
        database = lancedb.connect(folder)
        mode = "overwrite" if name in database.list_tables().tables else "create"
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        table = database.create_table(name, reader, mode=mode)
        for tag in table.tags.list():
            table.tags.delete(tag)  # a new gallery has no backfill to undo
        table.optimize(cleanup_older_than=_KEEP_VERSIONS)
    return Gallery.open(folder, space.id).status


def one_writer(folder: Path) -> AbstractContextManager[None]:
    """Hold the gallery for writing. Raises UsageError when another process does."""
    return exclusive(folder / ".lock", "another build or backfill")


def record_batch(
    rows: Sequence[GalleryRow], unit: Floats, *, space: EmbeddingSpace, model_digest: str
) -> pa.RecordBatch:
    """N items and their (N, D) unit rows, stamped, as the table stores them."""
    columns = [pa.array([getattr(row, each) for row in rows]) for each in _COLUMNS[:3]]
    columns += [pa.array([each] * len(rows)) for each in (space.id, model_digest)]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), space.dim))
    return pa.record_batch(columns, schema=_schema(space))


def status(folder: Path) -> tuple[GalleryStatus, ...]:
    """What each gallery in ``folder`` holds, by space id. Raises as `Gallery.open`."""
    opened = (Gallery._open_table(folder, name) for name in _table_names(folder))
    return tuple(sorted((each.status for each in opened), key=lambda found: found.space_id))


@dataclass(frozen=True)
class Gallery:
    """One version of one space's table, open for reading."""

    status: GalleryStatus
    dim: int
    folder: Path
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
            name = table_name(space_id)
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
        with border(CorruptError, f"the gallery {folder}/{name} is damaged; build it again"):
            table = lancedb.connect(folder).open_table(name)
        return cls.of_table(table, folder, name)

    @classmethod
    def of_table(cls, table: Any, folder: Path, name: str) -> Self:
        """A reader of the version that ``table`` is at."""
        with border(CorruptError, f"the gallery {folder}/{name} is damaged; build it again"):
            rows, version = table.count_rows(), table.version
            dim = table.schema.field("vector").type.list_size
            stamps = table.search().select(["model_digest"]).limit(rows).to_arrow()
        counts = pc.value_counts(stamps["model_digest"]).to_pylist()
        generations = [Generation(each["values"], each["counts"]) for each in counts]
        space_id = (table.schema.metadata or {}).get(b"space", b"").decode()
        if table_name(space_id) != name:
            raise CorruptError(f"{folder}/{name} has no space id that it can be: build it again")
        if wrong := [each for each in generations if not _DIGEST.fullmatch(each.model_digest)]:
            raise CorruptError(
                f"{folder}/{name} has {wrong[0].rows} rows that no model's digest is stamped on: "
                "build it again"
            )
        generations.sort(key=lambda each: (-each.rows, each.model_digest))
        status = GalleryStatus(space_id, rows, version, tuple(generations))
        return cls(status, dim, folder, table)

    def search(
        self, embeddings: npt.NDArray[Any], k: int, *, among: Sequence[Searchable] | None = None
    ) -> tuple[tuple[GalleryHit, ...], ...]:
        """The exact ``k`` best by score, ties by id: (Q, D) -> Q x min(k, rows searched).

        Args:
            embeddings: (Q, D) queries.
            k: how many.
            among: the generations that these queries may be compared with; rows of others are
                left out. None = all, where there is only one.

        Raises:
            UsageError: a wrong shape, a row without direction, ``k`` outside 1..`MAX_K`, or
                several generations and none named.
            CorruptError: a row is stamped with another space. Remedy: rebuild.
        """
        if not 1 <= k <= MAX_K:
            raise UsageError(f"k is {k}: ask for 1 to {MAX_K}")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise UsageError(f"query embeddings must be (Q, {self.dim}), got {embeddings.shape}")
        held = {each.model_digest: each.rows for each in self.status.generations}
        if among is None:
            if len(held) > 1:
                words = ", ".join(each[:12] for each in held)
                raise UsageError(
                    f"the gallery holds rows of {len(held)} generations ({words}): "
                    "name those that the query may be compared with"
                )
            among = [Searchable(each) for each in held]
        unit = _unit(embeddings, "query embeddings")
        wanted = [(each, held[each.model_digest]) for each in among if each.model_digest in held]
        hits: list[tuple[GalleryHit, ...]] = []
        for start in range(0, len(unit), _SEARCH_QUERIES):
            some = unit[start : start + _SEARCH_QUERIES]
            found = [self._exact(some, k, each, rows) for each, rows in wanted]
            hits += [_best([each[row] for each in found], k) for row in range(len(some))]
        return tuple(hits)

    def newer(self) -> Self | None:
        """The version that was committed last, when this is an older one. Raises as `open`."""
        name = table_name(self.status.space_id)
        with border(CorruptError, f"the gallery {self.folder}/{name} cannot be read"):
            table = lancedb.connect(self.folder).open_table(name)
            is_same = table.version == self.status.version
        return None if is_same else self.of_table(table, self.folder, name)

    def items(self) -> tuple[tuple[GalleryRow, ...], Floats, tuple[str, ...]]:
        """All G items by id, their (G, D) embeddings and the model digests they are stamped with.

        Raises CorruptError when the table cannot be read.
        """
        with border(CorruptError, "the gallery cannot be read; build it again"):
            query = self._table.search().select([*_COLUMNS, "vector"])
            table = query.limit(self.status.rows).to_arrow().sort_by("id").combine_chunks()
        rows = [GalleryRow(*each) for each in zip(*_texts(table, _COLUMNS[:3]), strict=True)]
        if not rows:
            return (), np.zeros((0, self.dim), np.float32), ()
        flat = table["vector"].chunk(0).flatten().to_numpy()
        vectors = np.array(flat, dtype=np.float32).reshape(-1, self.dim)
        return tuple(rows), vectors, tuple(table["model_digest"].to_pylist())

    def row(self, item_id: str) -> GalleryRow | None:
        """The item of that id, if there is one."""
        if not _ID.fullmatch(item_id):
            return None
        with border(CorruptError, "the gallery cannot be read; build it again"):
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
        with border(CorruptError, "the gallery cannot be read; build it again"):
            query = self._table.search().where(f"id IN ({wanted})").select(["id", "vector"])
            found = query.limit(len(ids)).to_arrow().to_pylist()
        stored = {row["id"]: row["vector"] for row in found}
        if missing := [each for each in ids if each not in stored]:
            raise UsageError(
                f"{len(missing)} of {len(ids)} images are not in the gallery, the first has id "
                f"{missing[0]}: build it from this data set"
            )
        return np.asarray([stored[each] for each in ids], dtype=np.float32)

    def _exact(
        self, unit: Floats, k: int, generation: Searchable, rows: int
    ) -> list[list[tuple[float, GalleryHit]]]:
        """(Q, D) -> Q lists of (score, hit) among the ``rows`` of one generation.

        Lance cuts ties at the k-th place anyhow, so fetch past them.
        """
        limit = min(k + 1, rows)
        while True:
            ranked = self._nearest(unit, limit, generation)
            cut = any(found[k - 1][0] == found[-1][0] for found in ranked if len(found) > k)
            if not cut or limit == rows:
                return ranked
            limit = min(limit * 4, rows)

    def _nearest(
        self, unit: Floats, limit: int, generation: Searchable
    ) -> list[list[tuple[float, GalleryHit]]]:
        """(Q, D) -> for each query its ``limit`` nearest of a generation as (score, hit)."""
        with border(CorruptError, "the gallery cannot be searched; build it again"):
            query = self._table.search(list(unit), vector_column_name="vector")
            query = query.distance_type("cosine").bypass_vector_index()
            if len(self.status.generations) > 1:
                query = query.where(f"model_digest = '{generation.model_digest}'", prefilter=True)
            found = query.select([*_COLUMNS, "_distance"]).limit(limit).to_arrow()
        stamps = {"space": self.status.space_id, "model_digest": generation.model_digest}
        for column, stamp in stamps.items():
            if pc.unique(found[column]).to_pylist() != [stamp]:
                raise CorruptError(f"the gallery holds rows of another {column}: build it again")
        ranked: list[list[tuple[float, GalleryHit]]] = [[] for _ in unit]
        for row in found.to_pylist():
            score = generation.scale * (1.0 - row["_distance"]) + generation.shift
            hit = GalleryHit(
                row["id"],
                row["path"],
                row["label"],
                min(1.0, max(-1.0, score)),
                row["model_digest"],
            )
            ranked[row.get("query_index", 0)].append((score, hit))
        return [sorted(each, key=_place) for each in ranked]


def _best(found: Sequence[list[tuple[float, GalleryHit]]], k: int) -> tuple[GalleryHit, ...]:
    """One query's hits of all its generations, merged by score."""
    return tuple(hit for _, hit in sorted(itertools.chain(*found), key=_place)[:k])


def _place(scored: tuple[float, GalleryHit]) -> tuple[float, str]:
    return -scored[0], scored[1].id


def checked_rows(
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


def _texts(table: pa.Table, columns: Sequence[str]) -> list[list[str]]:
    return [table[each].to_pylist() for each in columns]


def _unit(raw: npt.NDArray[Any], what: str) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # judged by the norm, one line below
        return unit_rows(raw, what)


def _schema(space: EmbeddingSpace) -> pa.Schema:
    fields = [pa.field(name, pa.string(), nullable=False) for name in _COLUMNS]
    fields.append(pa.field("vector", pa.list_(pa.float32(), space.dim), nullable=False))
    return pa.schema(fields, metadata={"space": space.id})


def table_name(space_id: str) -> str:
    """One to one: generation, dim and score are the last three parts, whatever the family."""
    return space_id.replace("/", "-")


def _table_names(folder: Path) -> list[str]:
    names: list[str] = []
    if folder.is_dir():
        with border(CorruptError, f"the gallery folder {folder} cannot be read"):
            names = sorted(lancedb.connect(folder).list_tables().tables)
    if not names:
        raise UsageError(f"{folder} holds no gallery: make one with kinspace gallery build")
    return names


@contextmanager
def border(error_class: type[UsageError] | type[CorruptError], what: str) -> Iterator[None]:
    """Lance and Arrow speak in builtin exceptions; ours leave here."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, pa.ArrowException) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise error_class(f"{what} ({words})") from error
