"""Recipe: a query model that lands in the gallery model's space, read top to bottom."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from compat.preprocess import Floats
from server_models.checkpoint import save_weights
from server_models.config import FamilyConfig, MemberConfig
from server_models.edge_net import EdgeNet
from server_models.heads import NormalisedHead
from server_models.lesson import Lesson
from server_models.lite_net import LiteNet
from server_models.loop import Run, train
from server_models.pixels import Decoded
from server_models.query_net import begin, build
from server_models.run_folder import RunFolder
from server_models.train_cloud import TrainedCloud

Net = TypeVar("Net", bound=nn.Module)


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
    """
    torch.manual_seed(family.seed)
    net = build(member, family.dim)
    begin(net, member, cloud.net)
    what = member.model_dump(mode="json")
    return teach(
        net, what, family, member, decoded, cloud,
        anchors=anchors, data_digest=data_digest, folder=folder,
    )  # fmt: skip


def teach(
    net: Net,
    what: Mapping[str, object],
    family: FamilyConfig,
    member: MemberConfig,
    decoded: Decoded,
    cloud: TrainedCloud,
    *,
    anchors: Floats,
    data_digest: str,
    folder: RunFolder,
) -> Net:
    """`train_edge` for a network that is there: (N, 3, S, S) -> (N, D).

    Args:
        what: all that decides the network and its lessons; a run of another ``what`` begins anew.
        member: its losses, aim, recipe and schedule are used, its backbone is not.
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = {"seed": family.seed, "dim": family.dim, **what}
    digest = folder.describe(config, data_digest=data_digest)
    lesson = Lesson.of(family, member, decoded, cloud, anchors)
    own_head = NormalisedHead(len(decoded.classes), family.dim)
    optimizer = torch.optim.AdamW(
        [*net.parameters(), *own_head.parameters()],
        lr=member.schedule.learning_rate,
        weight_decay=member.schedule.weight_decay,
    )
    run = Run(folder, digest, f"train {member.name}", member.schedule, family.seed,
              {"net": net, "own_head": own_head}, optimizer)  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = lesson.rows_at(step, member.schedule.batch)  # (B,)
        query = net(lesson.images_at(step, rows, decoded, member.preprocess))  # (B, D)
        return lesson.losses(query, rows, own_head.weight)

    net.train()
    train(run, losses_at)
    save_weights(folder.weights, net, {"run": digest})
    return net.eval()
