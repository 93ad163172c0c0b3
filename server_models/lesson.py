"""What a query model is taught: images as a camera sees them, and where each one should land."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compat.errors import DataError
from compat.files import digest_of
from compat.preprocess import Floats, Preprocess
from server_models.augment import augmented, camera
from server_models.config import FamilyConfig
from server_models.loop import Rows, batch_rows, step_seed
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded
from server_models.terms import Batch, Before, Gallery, weighted


def pulled_to_gallery(anchors: Tensor, targets: Tensor, is_gallery: Tensor) -> Tensor:
    """Where each image should land: half-way from its own embedding to its class in the gallery.

    (N, D) rows of L2 norm 1, (N,) int64, (N,) bool -> (N, D) rows of L2 norm 1. A query's own
    embedding by the cloud model is noisy; what it has to find are the gallery images of its class.
    A class without gallery images is pulled to the mean of all its images.
    """
    centres = torch.empty(int(targets.max()) + 1, anchors.shape[1])  # (C, D)
    for label in sorted(set(targets.tolist())):
        of_class = targets == label
        shown = of_class & is_gallery
        centres[label] = anchors[shown if shown.any() else of_class].mean(0)
    return F.normalize(anchors + F.normalize(centres[targets]))


@dataclass(frozen=True)
class Lesson:
    """The training side of one family, ready for one member.

    The gallery model sees each image once, clean; the query model sees it as a camera would and is
    asked for the same embedding. So its outputs are cached, and what it regresses to never moves.
    """

    seed: int
    member: MemberConfig
    gallery: Gallery
    targets: Tensor  # (N,) int64
    aims: Tensor  # (N, D)
    seen: Tensor  # (N, D) what the gallery model says of each
    queries: Rows  # (Nq,) which images a phone could have taken
    unlabelled: Rows  # (Nu,) images that only the gallery model has a word on
    shown: Tensor  # (Ng,) int64, which images are searched; all of them when none is only that

    @classmethod
    def of(
        cls,
        family: FamilyConfig,
        member: MemberConfig,
        decoded: Decoded,
        head: Tensor | None,
        anchors: Floats,
    ) -> "Lesson":
        """Args: see `server_models.train_edge.train_edge`. Raises DataError without queries."""
        targets = torch.from_numpy(decoded.targets())  # (N,)
        seen = torch.from_numpy(anchors)  # (N, D)
        is_gallery = torch.tensor([image.role == "gallery" for image in decoded.images])  # (N,)
        labelled = targets >= 0  # (N,)
        taken = torch.tensor([image.a_phone_may_take_it for image in decoded.images])  # (N,)
        queries = np.flatnonzero((labelled & taken).numpy())  # (Nq,)
        if not len(queries):
            raise DataError("the training split has no image of role 'query': give some that role")
        aims = seen.clone()
        if member.aim == "class":
            aims[labelled] = pulled_to_gallery(
                seen[labelled], targets[labelled], is_gallery[labelled]
            )
        return cls(
            seed=family.seed,
            member=member,
            gallery=Gallery.of(seen[labelled], targets[labelled], head, family.cloud.scale),
            targets=targets,
            aims=aims,
            seen=seen,
            queries=queries,
            unlabelled=np.flatnonzero(~labelled.numpy()),
            shown=torch.nonzero(labelled & is_gallery if is_gallery.any() else labelled).flatten(),
        )

    @cached_property
    def gallery_digest(self) -> str:
        """Of the gallery model as members see it: what it says of each image, and its head."""
        head = self.gallery.head
        said = (self.seen, torch.empty(0) if head is None else head)
        parts = [digest_of(each.numpy().tobytes()) for each in said]
        return digest_of(f"{parts} {self.gallery.scale}".encode())

    @cached_property
    def _camera(self) -> nn.Module:
        return camera()

    def rows_at(self, step: int, batch: int) -> Rows:
        """Which images step ``step`` sees, half of them unlabelled where there are such: (B,)."""
        free = batch // 2 if len(self.unlabelled) else 0
        drawn = batch_rows(self.seed, step, batch - free, len(self.queries))
        if not free:
            return self.queries[drawn]
        others = batch_rows(self.seed, step, free, len(self.unlabelled))
        return np.concatenate([self.queries[drawn], self.unlabelled[others]])

    def images_at(self, step: int, rows: Rows, decoded: Decoded, recipe: Preprocess) -> Tensor:
        """(B, 3, S, S) float32 normalised, a function of (seed, step)."""
        pixels = augmented(decoded.pixels[rows], self._camera, seed=step_seed(self.seed, step))
        return torch.from_numpy(recipe.normalised(pixels)).permute(0, 3, 1, 2)

    def found(self, query: Tensor, rows: Rows) -> Tensor:
        """Whether the best other image of the gallery is of the class: (B, D) L2 = 1 -> (B,)."""
        scores = query @ F.normalize(self.seen[self.shown]).T  # (B, Ng)
        scores[self.shown == torch.from_numpy(rows)[:, None]] = -torch.inf
        return self.targets[self.shown[scores.argmax(1)]] == self.targets[rows]

    def losses(
        self, query: Tensor, rows: Rows, own_head: Tensor, *, before: Before | None = None
    ) -> Mapping[str, Tensor]:
        """(B, D), (B,), (C, D) -> () terms to sum."""
        batch = Batch(query, self.aims[rows], self.seen[rows], self.targets[rows], own_head, before)
        return weighted(self.member.losses, batch, self.gallery)
