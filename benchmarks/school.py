"""Train any network in a family's space, as a member is: what tables of networks stand on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from compat.preprocess import Floats, Preprocess
from registry.stages import CALIBRATION_IMAGES
from server_models.family import Family
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded, decode_all
from server_models.small_update import inputs_of
from server_models.train_edge import teach

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class School:
    """The training images of one family, decoded once for each side."""

    family: Family

    def teach(
        self, build: Callable[[], Net], member: MemberConfig, *, what: Mapping[str, object]
    ) -> Net:
        """Train into the folder of ``member``'s name; goes on from where it was stopped.

        Args:
            build: gives (N, 3, S, S) -> (N, D) with fresh weights.
            member: its lessons; its backbone is not used.
            what: all that decides the network; another one begins anew.
        """
        torch.manual_seed(self.family.config.seed)
        return teach(
            build(),
            {**inputs_of(member), **what},
            self.family.config,
            member,
            self._decoded(member.preprocess),
            self.family.gallery_model,
            anchors=self.family.anchors(),
            data_digest=self.family.dataset.digest,
            folder=self.family.folder(member.name),
        ).eval()

    def calibration(self, recipe: Preprocess) -> Floats:
        """Training images to measure int8's ranges on: (N, S, S, 3) float32 normalised."""
        pixels = self._decoded(recipe).pixels
        rows = np.random.default_rng(self.family.config.seed).permutation(len(pixels))
        return recipe.normalised(pixels[rows[:CALIBRATION_IMAGES]])

    def _decoded(self, recipe: Preprocess) -> Decoded:
        if recipe.size_px not in self._kept:
            title = f"decode train at {recipe.size_px} px"
            images = self.family.dataset.of("train")
            self._kept[recipe.size_px] = decode_all(images, recipe, title=title)
        return self._kept[recipe.size_px]

    @cached_property
    def _kept(self) -> dict[int, Decoded]:
        return {}
