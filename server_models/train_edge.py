"""Recipe: a query model that lands in the gallery model's space, read top to bottom."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compat.errors import DataError
from compat.preprocess import Floats
from server_models.augment import augmented, camera
from server_models.checkpoint import save_weights
from server_models.config import FamilyConfig, MemberConfig
from server_models.edge_net import EdgeNet
from server_models.heads import NormalisedHead
from server_models.lite_net import LiteNet
from server_models.loop import Run, batch_rows, step_seed, train
from server_models.pixels import Decoded
from server_models.query_net import begin, build
from server_models.run_folder import RunFolder
from server_models.terms import Batch, Gallery, weighted
from server_models.train_cloud import TrainedCloud


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


def train_edge(
    family: FamilyConfig,
    member: MemberConfig,
    decoded: Decoded,
    cloud: TrainedCloud,
    *,
    anchors: Floats,
    data_digest: str,
    folder: RunFolder,
) -> EdgeNet | LiteNet:
    """Train to the end, or go on from where it stopped; a finished run is loaded.

    Args:
        decoded: every training image; the model learns on the queries among them, which is all
            that a phone ever embeds.
        anchors: (N, D), what the frozen ``cloud`` says of the training images, in their order.

    The gallery model sees each image once, clean; the query model sees it as a camera would and is
    asked for the same embedding. So its outputs are cached, and what it regresses to never moves.
    """
    recipe = member.preprocess
    torch.manual_seed(family.seed)
    net = build(member, family.dim)
    begin(net, member, cloud.net)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    config = {"seed": family.seed, "dim": family.dim, **member.model_dump(mode="json")}
    digest = folder.describe(config, data_digest=data_digest)
    targets = torch.from_numpy(decoded.targets())  # (N,)
    gallery = Gallery.of(torch.from_numpy(anchors), targets, cloud.head, family.cloud.scale)
    is_gallery = torch.tensor([image.role == "gallery" for image in decoded.images])  # (N,)
    seen = gallery.embeddings  # (N, D)
    aims = pulled_to_gallery(seen, targets, is_gallery) if member.aim == "class" else seen
    queries = np.flatnonzero(~is_gallery.numpy())  # (Nq,)
    if not len(queries):
        raise DataError("the training split has no image of role 'query': give some that role")
    augment = camera()
    own_head = NormalisedHead(len(decoded.classes), family.dim)
    optimizer = torch.optim.AdamW(
        [*net.parameters(), *own_head.parameters()],
        lr=member.schedule.learning_rate,
        weight_decay=member.schedule.weight_decay,
    )
    run = Run(folder, digest, f"train {member.name}", member.schedule, family.seed,
              {"net": net, "own_head": own_head}, optimizer)  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = queries[batch_rows(family.seed, step, member.schedule.batch, len(queries))]  # (B,)
        pixels = augmented(decoded.pixels[rows], augment, seed=step_seed(family.seed, step))
        images = torch.from_numpy(recipe.normalised(pixels)).permute(0, 3, 1, 2)  # (B, 3, S, S)
        query = net(images)  # (B, D)
        batch = Batch(query, aims[rows], seen[rows], targets[rows], own_head.weight)
        return weighted(member.losses, batch, gallery)

    net.train()
    train(run, losses_at)
    save_weights(folder.weights, net, {"run": digest})
    return net.eval()
