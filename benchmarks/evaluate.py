"""Measure trained members on a held-out split without exporting them: what the tables stand on.

Queries are the split's query images, the gallery those of its gallery images whose view begins with
a given word (studio, icon; any when the set has no views). Embeddings are kept beside the run, so a
table is printed again in seconds.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from compat.arrays import read_array, write_array
from compat.dataset import LabelledImage
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats, Preprocess
from compat.report_parts import Estimate
from compat.retrieval import PerQuery, RetrievalPerQuery, retrieval_per_query
from compat.scores import Relevance, relevance
from compat.statistics import mean_interval, paired_difference_interval
from server_models.config import MemberConfig
from server_models.family import Family, embed_all
from server_models.pixels import decode_all

MAX_WEIGHTS_BYTES = 2**30


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
        cloud = self.family.config.cloud
        return self._sides(cloud.name, self.family.cloud().net, cloud.preprocess)

    def member(self, member: MemberConfig) -> Sides:
        return self._sides(member.name, self.family.member(member), member.preprocess)

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

    def _sides(self, name: str, net: nn.Module, recipe: Preprocess) -> Sides:
        weights = self.family.folder(name).weights
        key = digest_of(read_bounded(weights, MAX_WEIGHTS_BYTES))[:16]
        return Sides(
            *(
                self._embedded(
                    weights.parent / f"{self.split}-{role}-{key}.npy", role, net, recipe
                )[rows]
                for role, rows in (("query", slice(None)), ("gallery", self._gallery_rows))
            )
        )

    def _embedded(self, kept: Path, role: str, net: nn.Module, recipe: Preprocess) -> Floats:
        if not kept.exists():
            images = self.family.dataset.of(self.split, role)
            pixels = decode_all(images, recipe, title=f"decode {role}").pixels
            write_array(kept, embed_all(net, recipe, pixels, title=f"embed {role}"))
        return read_array(kept)

    @cached_property
    def _gallery_rows(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        shown = {image.name for image in self.gallery}
        every = self.family.dataset.of(self.split, "gallery")
        return np.array([row for row, image in enumerate(every) if image.name in shown])
