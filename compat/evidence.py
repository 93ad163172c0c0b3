"""What a family is verified on: labelled query and gallery images of a held-out split, as bytes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compat.errors import DataError
from compat.files import digest_of
from compat.images import decode
from compat.preprocess import Pixels, Preprocess
from compat.scores import Relevance, relevance

MIN_GALLERY = 11  # with ten items or fewer hit_rate@10 and overlap@10 are 1 for noise
Progress = Callable[[str, int, int], None]  # what is going on, steps done, steps in all


def silent(what: str, done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class LabelledImages:
    """N encoded images with the names that errors call them by, and what each shows."""

    names: tuple[str, ...]
    images: tuple[bytes, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # more of the manifest

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.images) == len(self.labels):
            raise DataError(
                f"{len(self.names)} names, {len(self.images)} images and {len(self.labels)} labels "
                "do not correspond: give one of each for every image"
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class EvidenceSet:
    """Queries and gallery of one held-out split."""

    queries: LabelledImages
    gallery: LabelledImages
    dataset_digest: str  # of the whole data set, 64 hex digits
    split: str

    def __post_init__(self) -> None:
        if not len(self.queries):
            raise DataError(f"split {self.split!r} has no query image: add some")
        if len(self.gallery) < MIN_GALLERY:
            raise DataError(
                f"split {self.split!r} has {len(self.gallery)} gallery images: with fewer than "
                f"{MIN_GALLERY} everything is found in the top ten, so it would prove nothing"
            )

    def relevance(self, rows: Sequence[int] | None = None) -> Relevance:
        """Same label = relevant, except the same image: equal bytes are taken out, per query.

        Args:
            rows: of the queries that are wanted, in this order; all when left out.
        """
        wanted = range(len(self.queries)) if rows is None else rows
        return relevance(
            [self.queries.labels[row] for row in wanted],
            self.gallery.labels,
            query_ids=[digest_of(self.queries.images[row]) for row in wanted],
            gallery_ids=[digest_of(image) for image in self.gallery.images],
        )

    @property
    def classes(self) -> int:
        return len({*self.queries.labels, *self.gallery.labels})


@dataclass(frozen=True)
class SidePixels:
    """Both sides after one recipe: (Q, S, S, 3) and (G, S, S, 3) uint8."""

    queries: Pixels
    gallery: Pixels


def decode_all(
    evidence: EvidenceSet, recipes: Iterable[Preprocess], progress: Progress = silent
) -> dict[Preprocess, SidePixels]:
    """Every image decoded once and fitted by each distinct recipe.

    Raises:
        ImageError: one cannot be used. Remedy: the message names it and the cure.
    """
    distinct = list(dict.fromkeys(recipes))
    sides = (evidence.queries, evidence.gallery)
    total = sum(len(side) for side in sides)
    done = 0
    fitted: list[list[Pixels]] = []  # side by side, recipe by recipe
    for side in sides:
        pixels = [
            np.empty((len(side), recipe.size_px, recipe.size_px, 3), dtype=np.uint8)
            for recipe in distinct
        ]
        for row, (blob, name) in enumerate(zip(side.images, side.names, strict=True)):
            image = decode(blob, name)
            for recipe, rows in zip(distinct, pixels, strict=True):
                rows[row] = recipe.fitted(image)
            done += 1
            progress("decode", done, total)
        fitted.append(pixels)
    return {
        recipe: SidePixels(queries, gallery)
        for recipe, queries, gallery in zip(distinct, *fitted, strict=True)
    }
