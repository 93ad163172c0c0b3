"""A family in training: the cloud model once, then every member against its frozen outputs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import nn

from compat.arrays import read_array, write_array
from compat.dataset import Dataset, read_dataset
from compat.embedding import unit_rows
from compat.files import write_atomic
from compat.preprocess import Floats, Pixels, Preprocess
from compat.terminal import STDERR
from server_models.checkpoint import load_weights, read_weights
from server_models.config import FamilyConfig, MemberConfig
from server_models.heads import NormalisedHead
from server_models.pixels import Decoded, decode_all, without_bad
from server_models.query_net import Net, build
from server_models.run_folder import RunFolder
from server_models.train_cloud import TrainedCloud, train_cloud
from server_models.train_edge import train_edge

EMBED_BATCH = 64


def embed_all(net: nn.Module, recipe: Preprocess, pixels: Pixels, *, title: str = "") -> Floats:
    """(N, S, S, 3) uint8 -> (N, D) float32 by the training framework, rows of L2 norm 1.

    A ``title`` shows progress.
    """
    net.eval()
    rows = []
    with torch.inference_mode():
        for start in track(
            range(0, len(pixels), EMBED_BATCH),
            title,
            transient=True,
            disable=not title,
            console=STDERR,
        ):
            batch = torch.from_numpy(recipe.normalised(pixels[start : start + EMBED_BATCH]))
            rows.append(net(batch.permute(0, 3, 1, 2)).numpy())  # (B, D)
    return unit_rows(np.concatenate(rows), title or "embeddings")


@dataclass(frozen=True)
class Family:
    """A config bound to the folder where its runs lie."""

    config: FamilyConfig
    runs: Path

    @cached_property
    def dataset(self) -> Dataset:
        """The set that everything is measured on; images left out are listed beside the runs."""
        whole = read_dataset(self.config.data.path)
        if self.config.data.on_bad_image == "stop":
            return whole
        dataset, refused = without_bad(whole)
        write_atomic(self.runs / "left_out.txt", "".join(f"{why}\n" for why in refused).encode())
        return dataset

    def folder(self, model: str) -> RunFolder:
        return RunFolder(self.runs / model)

    def train_cloud(self) -> None:
        """Train the gallery model, then embed every training image with it, clean."""
        cloud = self.config.cloud
        images = self.dataset.of("train")
        decoded = decode_all(images, cloud.preprocess, title=f"decode for {cloud.name}")
        folder = self.folder(cloud.name)
        train_cloud(self.config, decoded, data_digest=self.dataset.digest, folder=folder)
        self.cache_anchors(decoded)

    def cache_anchors(self, decoded: Decoded) -> None:
        """Embed every training image with the trained gallery model."""
        net, recipe = self.cloud().net, self.config.cloud.preprocess
        embeddings = embed_all(net, recipe, decoded.pixels, title="cache the anchors")
        write_array(self._anchors, embeddings)

    def train_member(self, member: MemberConfig) -> None:
        """Train one query model against what the frozen gallery model says."""
        images = self.dataset.of("train")
        decoded = decode_all(images, member.preprocess, title=f"decode for {member.name}")
        train_edge(
            self.config,
            member,
            decoded,
            self.cloud(),
            anchors=self.anchors(),
            data_digest=self.dataset.digest,
            folder=self.folder(member.name),
        )

    def cloud(self) -> TrainedCloud:
        """The gallery model as it was trained."""
        cloud = self.config.cloud
        weights = self.folder(cloud.name).weights
        head = read_weights(weights)["head.weight"]
        net = build(cloud, self.config.dim)
        whole = nn.ModuleDict({"net": net, "head": NormalisedHead(*head.shape)})
        load_weights(weights, whole)
        return TrainedCloud(net.eval(), head)

    def anchors(self) -> Floats:
        """(N, D): what the gallery model says of the training images, clean, in their order."""
        return read_array(self._anchors)

    def member(self, member: MemberConfig) -> Net:
        """A trained query model."""
        net = build(member, self.config.dim)
        load_weights(self.folder(member.name).weights, net)
        return net.eval()

    @property
    def _anchors(self) -> Path:
        return self.folder(self.config.cloud.name).path / "anchors.npy"
