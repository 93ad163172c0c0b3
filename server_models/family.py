"""A family in training: the cloud model once, then every member against its frozen outputs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from compat.arrays import read_array, write_array
from compat.dataset import Dataset, read_dataset, read_unlabelled
from compat.files import digest_of, read_bounded, write_atomic
from compat.preprocess import Floats
from server_models.checkpoint import load_weights, read_weights
from server_models.cloud_config import CloudConfig, GivenCloud, OnnxCloud, TableCloud
from server_models.config import FamilyConfig
from server_models.gallery_model import (
    MAX_GALLERY_BYTES,
    GalleryModel,
    OnnxGallery,
    TableGallery,
    TrainedGallery,
)
from server_models.heads import NormalisedHead
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all, without_bad
from server_models.query_net import Net, build
from server_models.run_folder import RunFolder
from server_models.train_cloud import train_cloud
from server_models.train_edge import train_edge


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

    @cached_property
    def unlabelled(self) -> Dataset:
        """Images that the members see beside the set; none of them counts in any measure."""
        path = self.config.data.unlabelled
        return read_unlabelled(path) if path else Dataset(())

    @property
    def data_digest(self) -> str:
        """Of all images that a member learns from."""
        if not self.unlabelled.images:
            return self.dataset.digest
        return digest_of(f"{self.dataset.digest} {self.unlabelled.digest}".encode())

    def folder(self, model: str) -> RunFolder:
        return RunFolder(self.runs / model)

    def train_cloud(self) -> None:
        """Train the gallery model, or take the given one; then embed the training images, clean."""
        cloud = self.config.cloud
        if isinstance(cloud, CloudConfig):
            decoded = decode_all(
                self.dataset.of("train"), cloud.preprocess, title=f"decode for {cloud.name}"
            )
            train_cloud(
                self.config,
                cloud,
                decoded,
                data_digest=self.dataset.digest,
                folder=self.folder(cloud.name),
            )
        self.cache_anchors()

    def cache_anchors(self) -> None:
        """Embed every training image with the gallery model."""
        images = self.dataset.of("train")
        write_array(self._anchors, self.gallery_model.embed(images, title="cache the anchors"))

    def train_member(self, member: MemberConfig) -> None:
        """Train one query model against what the frozen gallery model says."""
        images = self.dataset.of("train") + self.unlabelled.images
        decoded = decode_all(images, member.preprocess, title=f"decode for {member.name}")
        train_edge(
            self.config,
            member,
            decoded,
            self.gallery_model,
            anchors=np.concatenate([self.anchors(), self.unlabelled_anchors()]),
            data_digest=self.data_digest,
            folder=self.folder(member.name),
        )

    @cached_property
    def gallery_model(self) -> GalleryModel:
        """The gallery model as it was trained, or as it was given."""
        cloud = self.config.cloud
        if isinstance(cloud, OnnxCloud):
            return OnnxGallery(cloud.onnx, cloud.preprocess, self.config.dim)
        if isinstance(cloud, TableCloud):
            return TableGallery(cloud.vectors, self.config.dim)
        weights = self.folder(cloud.name).weights
        head = read_weights(weights)["head.weight"]
        net = build(cloud, self.config.dim)
        whole = nn.ModuleDict({"net": net, "head": NormalisedHead(*head.shape)})
        load_weights(weights, whole)
        return TrainedGallery(net.eval(), head, cloud.preprocess)

    @property
    def cloud_digest(self) -> str:
        """Of the file that the gallery model is."""
        cloud = self.config.cloud
        file = cloud.file if isinstance(cloud, GivenCloud) else self.folder(cloud.name).weights
        return digest_of(read_bounded(file, MAX_GALLERY_BYTES))

    def anchors(self) -> Floats:
        """(N, D): what the gallery model says of the training images, clean, in their order."""
        return read_array(self._anchors)

    def unlabelled_anchors(self) -> Floats:
        """(Nu, D): the same of the images without a label; embedded once."""
        images = self.unlabelled.images
        if not images:
            return np.empty((0, self.config.dim), dtype=np.float32)
        key = digest_of(f"{self.cloud_digest} {self.unlabelled.digest}".encode())[:16]
        kept = self._anchors.with_name(f"anchors-{key}.npy")
        if not kept.exists():
            title = "cache the anchors of unlabelled images"
            write_array(kept, self.gallery_model.embed(images, title=title))
        return read_array(kept)

    def member(self, member: MemberConfig) -> Net:
        """A trained query model."""
        net = build(member, self.config.dim)
        load_weights(self.folder(member.name).weights, net)
        return net.eval()

    @property
    def _anchors(self) -> Path:
        return self.folder(self.config.cloud.name).path / "anchors.npy"
