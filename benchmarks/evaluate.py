"""Measure trained members on a held-out split without exporting them: what the tables stand on.

Queries are the split's query images, the gallery those of its gallery images whose view begins with
a given word (studio, icon; any when the set has no views). Embeddings are kept beside the run, so a
table is printed again in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compat.arrays import read_array, write_array
from compat.dataset import LabelledImage
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import PerQuery, RetrievalPerQuery, retrieval_per_query
from compat.scores import Relevance, relevance
from compat.statistics import mean_interval, paired_difference_interval
from server_models.checkpoint import MAX_CHECKPOINT_BYTES
from server_models.embed import embed_all
from server_models.family import Family
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all

VIEWS = {"demo": "studio", "objects820": "studio", "emoji": ""}  # a set's gallery views begin so
Embed = Callable[[tuple[LabelledImage, ...], str], Floats]


@dataclass(frozen=True)
class Sides:
    """Embeddings of one model: (Q, D) queries and (G, D) gallery."""

    queries: Floats
    gallery: Floats


@dataclass(frozen=True)
class HeldOut:
    """One held-out split of a family's data, and the gallery model's view of it."""

    family: Family
    gallery_view: str = ""
    split: str = "test"

    @cached_property
    def queries(self) -> tuple[LabelledImage, ...]:
        return self.family.dataset.of(self.split, "query")

    @cached_property
    def gallery(self) -> tuple[LabelledImage, ...]:
        images = self.family.dataset.of(self.split, "gallery")
        return tuple(i for i in images if i.columns.get("view", "").startswith(self.gallery_view))

    @cached_property
    def relevance(self) -> Relevance:
        return relevance([i.label for i in self.queries], [i.label for i in self.gallery])

    @property
    def classes(self) -> list[str]:
        """(Q,) what intervals resample whole."""
        return [image.label for image in self.queries]

    @cached_property
    def cloud(self) -> Sides:
        def embed(images: tuple[LabelledImage, ...], title: str) -> Floats:
            return self.family.gallery_model.embed(images, title=title)

        folder = self.family.folder(self.family.config.cloud.name).path
        return self._sides(folder, self.family.cloud_digest, embed)

    def member(self, member: MemberConfig) -> Sides:
        def embed(images: tuple[LabelledImage, ...], title: str) -> Floats:
            pixels = decode_all(images, member.preprocess, title=title).pixels
            return embed_all(self.family.member(member), member.preprocess, pixels, title=title)

        folder = self.family.folder(member.name)
        digest = digest_of(read_bounded(folder.weights, MAX_CHECKPOINT_BYTES))
        return self._sides(folder.path, digest, embed)

    def test(self, queries: Floats, gallery: Floats) -> RetrievalPerQuery:
        """M(query, gallery), query by query."""
        return retrieval_per_query(queries, gallery, self.relevance)

    def mean(self, values: PerQuery) -> Estimate:
        return mean_interval(values, self.classes)

    def difference(self, a: PerQuery, b: PerQuery) -> Estimate:
        """a - b over the same queries, classes resampled whole."""
        return paired_difference_interval(a, b, self.classes)

    def chance(self) -> RetrievalPerQuery:
        """What random directions score here: the floor of every cross-test."""
        rng = np.random.default_rng(0)
        dim = self.family.config.dim
        drawn = [rng.normal(size=(len(side), dim)) for side in (self.queries, self.gallery)]
        return self.test(*(side.astype(np.float32) for side in drawn))

    def _sides(self, folder: Path, digest: str, embed: Embed) -> Sides:
        """Both sides, whole, by ``embed``; kept in ``folder`` for the model of ``digest``."""
        sides = []
        for role, rows in (("query", slice(None)), ("gallery", self._gallery_rows)):
            kept = folder / f"{self.split}-{role}-{digest[:16]}.npy"
            if not kept.exists():
                images = self.family.dataset.of(self.split, role)
                write_array(kept, embed(images, f"embed {role}"))
            sides.append(read_array(kept)[rows])
        return Sides(*sides)

    @cached_property
    def _gallery_rows(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        shown = {image.name for image in self.gallery}
        every = self.family.dataset.of(self.split, "gallery")
        return np.array([row for row, image in enumerate(every) if image.name in shown])
