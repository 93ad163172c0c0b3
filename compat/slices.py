"""Where it hurts: the cross-test on parts of the test set, and the classes that lose most.

Parts come from the columns of the manifest (words as they are, numbers in quarters), from the size
of the query image, and from the classes. A difference with the paragon is told per part, its
p-value adjusted for how many parts were looked at (Holm), among them every class that the worst
were chosen from; a part too small to decide says so.
"""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from compat.errors import DataError
from compat.evidence import LabelledImages
from compat.manifest import Digest
from compat.previous import UpdateFlips, update_flips
from compat.report_parts import Estimate, Part
from compat.retrieval import RetrievalPerQuery
from compat.statistics import (
    holm,
    mean_interval,
    paired_difference_interval,
    paired_permutation_test,
)

MAX_VALUES = 40  # a column with more words is an identifier, not a part
MIN_DECIDING = 8  # counted queries; with fewer an interval means nothing
BINS = 4  # of a numeric column
WORST_CLASSES = 5
CLASS = "class"

Mask = npt.NDArray[np.bool_]


class SliceEvidence(Part):
    """One artifact on one part of the queries."""

    artifact: Digest
    column: str  # of the manifest; "class" and "short_side_px" are always there
    value: str
    cross_hit_rate_at_10: Estimate
    paragon_hit_rate_at_10: Estimate
    difference: Estimate  # cross - paragon, hit_rate@10
    previous: UpdateFlips | None = None  # at 1, against the previous release where one is known
    p_adjusted: float  # permutation test against no difference, Holm over all that was looked at
    is_deciding: bool  # False: too few queries to say anything

    @property
    def name(self) -> str:
        return f"{self.column}={self.value}"


class SliceSection(Part):
    """Every part of every artifact; of classes, the ones that lose most."""

    rows: tuple[SliceEvidence, ...]
    too_small: int  # parts left out: they bear no interval at all

    def of(self, artifact: str) -> tuple[SliceEvidence, ...]:
        return tuple(row for row in self.rows if row.artifact == artifact)


@dataclass(frozen=True)
class QueryColumns:
    """What is known of each query beside its label: name -> (Q,) words."""

    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    def parts(self) -> Iterator[tuple[str, str, Mask]]:
        """Column, value and (Q,) members of each part, classes left out."""
        for column, words in sorted(self.columns.items()):
            for value, members in _parts_of(np.asarray(words)):
                yield column, value, members


def query_columns(queries: LabelledImages) -> QueryColumns:
    """The columns of the manifest, and the size of each image from its header."""
    sides = short_sides_px(queries.images)
    return QueryColumns(queries.labels, {**queries.columns, "short_side_px": sides})


def short_sides_px(images: Sequence[bytes]) -> tuple[str, ...]:
    """The shorter side of each encoded image, from its header."""
    sides = []
    for blob in images:
        with Image.open(io.BytesIO(blob)) as image:
            sides.append(str(min(image.size)))
    return tuple(sides)


def _parts_of(words: npt.NDArray[np.str_]) -> Iterator[tuple[str, Mask]]:
    distinct = np.unique(words)
    if len(distinct) < 2:
        return
    numbers = _numbers(words)
    if numbers is not None and len(distinct) > BINS:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
        for low, high in itertools.pairwise(edges):
            is_last = high == edges[-1]
            members = (numbers >= low) & ((numbers <= high) if is_last else (numbers < high))
            yield f"{low:g} to {high:g}", members
    elif len(distinct) <= MAX_VALUES:
        for value in distinct:
            yield str(value), words == value


def _numbers(words: npt.NDArray[np.str_]) -> npt.NDArray[np.float64] | None:
    """The column as numbers, when every word is a finite one."""
    try:
        numbers = words.astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def slice_artifact(
    artifact: str,
    cross: RetrievalPerQuery,
    paragon: RetrievalPerQuery,
    known: QueryColumns,
    *,
    previous: RetrievalPerQuery | None = None,
) -> tuple[list[SliceEvidence], int]:
    """Every part of one artifact, and how many bear no interval.

    Args:
        artifact: digest. cross, paragon: M(q, g), M(g, g) of the same queries.
        previous: M(q, g) of the previous release, of the same queries.
    """
    rows: list[SliceEvidence] = []
    too_small = 0
    p_values: list[float] = []
    worst, passed_over = _worst_classes(cross, paragon, known.labels)
    for column, value, members in (*known.parts(), *worst):
        try:
            row, p = _measured(artifact, column, value, members, cross, paragon, known.labels)
            if previous is not None:
                row = row.model_copy(
                    update={"previous": _updated(column, members, previous, cross, known.labels)}
                )
        except DataError:
            too_small += 1
            continue
        rows.append(row)
        p_values.append(p)
    adjusted = _adjusted(rows, p_values, passed_over)
    found = [
        row.model_copy(update={"p_adjusted": p}) for row, p in zip(rows, adjusted, strict=True)
    ]
    return found, too_small


def _adjusted(
    rows: Sequence[SliceEvidence], p_values: Sequence[float], passed_over: int
) -> list[float]:
    """Holm among columns and among classes, each at half the level, so the whole keeps it.

    Apart, because a test set of many classes would drown the columns. The worst classes were chosen
    by looking at every class, so those passed over count at p = 1: that can only make the adjusted
    values larger, and spares the test of each. Rows of classes come last.
    """
    n_columns = sum(row.column != CLASS for row in rows)
    columns = holm(p_values[:n_columns])
    classes = holm([*p_values[n_columns:], *[1.0] * passed_over])
    return [min(1.0, 2 * p) for p in (*columns, *classes[: len(rows) - n_columns])]


def _measured(
    artifact: str,
    column: str,
    value: str,
    members: Mask,
    cross: RetrievalPerQuery,
    paragon: RetrievalPerQuery,
    labels: Sequence[str],
) -> tuple[SliceEvidence, float]:
    """One part; DataError when it bears no interval. Classes resample queries, the rest classes."""
    ours, best = cross.hit_rate_at_10[members], paragon.hit_rate_at_10[members]
    clusters = None if column == CLASS else np.asarray(labels)[members]
    evidence = SliceEvidence(
        artifact=artifact,
        column=column,
        value=value,
        cross_hit_rate_at_10=mean_interval(ours, clusters),
        paragon_hit_rate_at_10=mean_interval(best, clusters),
        difference=paired_difference_interval(ours, best, clusters),
        p_adjusted=1.0,
        is_deciding=int(np.count_nonzero(~np.isnan(ours))) >= MIN_DECIDING,
    )
    return evidence, paired_permutation_test(ours, best, clusters)


def _updated(
    column: str,
    members: Mask,
    before: RetrievalPerQuery,
    now: RetrievalPerQuery,
    labels: Sequence[str],
) -> UpdateFlips:
    """Flips of one part, resampled as its other measures are."""
    clusters = None if column == CLASS else [labels[int(row)] for row in np.flatnonzero(members)]
    return update_flips(before.hit_rate_at_1[members], now.hit_rate_at_1[members], clusters)


def _worst_classes(
    cross: RetrievalPerQuery, paragon: RetrievalPerQuery, labels: Sequence[str]
) -> tuple[list[tuple[str, str, Mask]], int]:
    """The classes that lose most in hit_rate@10, worst first, and how many others were seen."""
    gap = cross.hit_rate_at_10 - paragon.hit_rate_at_10
    known = np.asarray(labels)
    losses: list[tuple[float, str]] = []
    for label in np.unique(known):
        of_class = gap[known == label]
        if np.isfinite(of_class).any():
            losses.append((float(np.nanmean(of_class)), str(label)))
    worst = [(loss, label) for loss, label in sorted(losses) if loss < 0][:WORST_CLASSES]
    return [(CLASS, label, known == label) for _, label in worst], len(losses) - len(worst)
