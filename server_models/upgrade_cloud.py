"""Recipe: a new gallery model that is compatible with the old one, read top to bottom.

L(new head) + lambda * L(old head, FROZEN): backward-compatible training, BCT (arXiv:2003.11942).
The old head reads the first K dimensions of the new embedding, so a new model may have more. What
stands for "the old head" are the terms of ``[upgrade]``; they see what the old model says of the
training images, clean, and need nothing else of it: a table of its vectors is enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compat.errors import ConfigError
from compat.losses.margin import margin_loss
from compat.preprocess import Floats
from server_models.cloud_config import CloudConfig
from server_models.config import FamilyConfig, UpgradeConfig
from server_models.lesson import pulled_to_gallery
from server_models.loop import Rows
from server_models.pixels import Decoded
from server_models.run_folder import RunFolder
from server_models.terms import Batch, Gallery, weighted
from server_models.train_cloud import Start, fit_cloud


@dataclass(frozen=True)
class OldView:
    """What the old model says of the training images, and the classifier that it left."""

    embeddings: Floats  # (N, K) of every training image, in their order
    head: Mapping[str, Floats]  # class -> its row (K,); empty when only vectors are left
    digest: str  # of the old model
    net: nn.Module | None = None  # the model itself; None when only vectors are left

    def gallery(self, decoded: Decoded, scale: float) -> Gallery:
        """As the loss terms read it: rows that the head lacks are the means of its class."""
        seen, targets = torch.from_numpy(self.embeddings), torch.from_numpy(decoded.targets())
        known = torch.tensor([name in self.head for name in decoded.classes])  # (C,)
        if not known.any():
            return Gallery.of(seen, targets, None, scale)
        none = np.zeros(seen.shape[1], np.float32)
        head = np.stack([self.head.get(name, none) for name in decoded.classes])  # (C, K)
        return Gallery.of(seen, targets, torch.from_numpy(head), scale, known)


def start_of(upgrade: UpgradeConfig, net: nn.Module | None, digest: str) -> Start | None:
    """What a new network begins with; None: its backbone's own weights. ``net`` is the old one.

    Raises:
        ConfigError: the old model's are asked for, and only its vectors are left.
    """
    if upgrade.start == "backbone":
        return None
    if net is None:
        raise ConfigError(
            'start = "old" needs the weights of the old model and only its vectors are left: set '
            'start = "backbone" in [upgrade]'
        )
    return Start(net, digest)


def aims_of(gallery: Gallery, decoded: Decoded, upgrade: UpgradeConfig) -> Tensor:
    """Where `regression` wants each image in the old space: (N, K).

    Half-way from the old embedding, which is noisy, to its class in the old gallery, as a member.
    """
    if upgrade.aim == "image":
        return gallery.embeddings
    is_gallery = torch.tensor([image.role == "gallery" for image in decoded.images])  # (N,)
    return pulled_to_gallery(gallery.embeddings, gallery.labels, is_gallery)


def upgrade_cloud(
    family: FamilyConfig,
    cloud: CloudConfig,
    upgrade: UpgradeConfig,
    decoded: Decoded,
    old: OldView,
    *,
    data_digest: str,
    folder: RunFolder,
) -> None:
    """Train ``cloud`` of a family to the end, or go on from where it stopped.

    Raises:
        ConfigError: the new embedding has fewer dimensions than the old one, or cannot begin with
            its weights.
    """
    old_dim = old.embeddings.shape[1]
    if family.dim < old_dim:
        raise ConfigError(f"dim = {family.dim}, the old model has {old_dim}: give at least as many")
    gallery = old.gallery(decoded, cloud.scale)
    targets = torch.from_numpy(decoded.targets())  # (N,)
    aims = aims_of(gallery, decoded, upgrade)  # (N, K)

    def losses(embeddings: Tensor, rows: Rows, head: Tensor) -> Mapping[str, Tensor]:
        labels, seen = targets[rows], gallery.embeddings[rows]  # (B,), (B, K)
        own = margin_loss(embeddings, labels, head, scale=cloud.scale, margin=cloud.margin)  # (B,)
        shared = embeddings[:, :old_dim]  # (B, K)
        batch = Batch(shared, aims[rows], seen, labels, head[:, :old_dim])
        return {"margin": own.mean(), **weighted(upgrade.losses, batch, gallery)}

    also = {"upgrade": upgrade.model_dump(mode="json"), "from": old.digest}
    fit_cloud(
        family, cloud, decoded, losses, also,
        title="upgrade", data_digest=data_digest, folder=folder,
        start=start_of(upgrade, old.net, old.digest),
    )  # fmt: skip
