"""Recipe: a query model that lands in the gallery model's space, read top to bottom."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from compat.preprocess import Floats
from server_models.checkpoint import save_weights
from server_models.config import FamilyConfig
from server_models.gallery_model import GalleryModel
from server_models.heads import NormalisedHead
from server_models.lesson import Lesson
from server_models.loop import Run, train
from server_models.member_config import MemberConfig
from server_models.optimizer import optimizers
from server_models.pixels import Decoded
from server_models.previous import Previous, begin_previous, decides, save_head
from server_models.query_net import Net, begin, build
from server_models.run_folder import RunFolder
from server_models.small_update import begin_update, keep_ranges, still_statistics
from server_models.terms import OWN_HEAD

AnyNet = TypeVar("AnyNet", bound=nn.Module)


def train_edge(
    family: FamilyConfig,
    member: MemberConfig,
    decoded: Decoded,
    gallery_model: GalleryModel,
    *,
    anchors: Floats,
    data_digest: str,
    folder: RunFolder,
) -> Net:
    """Train to the end, or go on from where it stopped; a finished run is loaded.

    Args:
        decoded: every training image, those without a label last; the model learns on those among
            them that a phone may take, which is all that it ever embeds.
        anchors: (N, D), what the frozen gallery model says of ``decoded``, in order.
    """
    torch.manual_seed(family.seed)
    net = build(member, family.dim)
    if member.update:
        begin_update(net, member.update)
    elif member.start == "previous":
        begin_previous(net, member)
    else:
        begin(net, member, gallery_model)
    return teach(
        net, decides(member), family, member, decoded, gallery_model,
        anchors=anchors, data_digest=data_digest, folder=folder,
    )  # fmt: skip


def teach(
    net: AnyNet,
    what: Mapping[str, object],
    family: FamilyConfig,
    member: MemberConfig,
    decoded: Decoded,
    gallery_model: GalleryModel,
    *,
    anchors: Floats,
    data_digest: str,
    folder: RunFolder,
) -> AnyNet:
    """`train_edge` for a network that is there: (N, 3, S, S) -> (N, D).

    Args:
        what: all that decides the network and its lessons; a run of another ``what`` begins anew.
        member: its losses, aim, recipe and schedule are used, its backbone is not.
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    lesson = Lesson.of(family, member, decoded, gallery_model.head, anchors)
    config = {"seed": family.seed, "dim": family.dim, "gallery": lesson.gallery_digest, **what}
    digest = folder.describe(config, data_digest=data_digest)
    previous = Previous.of(member, decoded, dim=family.dim) if member.previous else None
    own_head = NormalisedHead(len(decoded.classes), family.dim)
    method = "adamw" if member.update else member.optimizer  # what should stay small stays small
    run = Run(folder, digest, f"train {member.name}", member.schedule, family.seed,
              {"net": net, "own_head": own_head},
              optimizers(net, own_head.parameters(), member.schedule, method))  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = lesson.rows_at(step, member.schedule.batch)  # (B,)
        images = lesson.images_at(step, rows, decoded, member.preprocess)  # (B, 3, S, S)
        before = previous.said(lesson, step, rows, images) if previous else None
        return lesson.losses(net(images), rows, own_head.weight, before=before)

    if member.update:
        released = {name: value.clone() for name, value in net.state_dict().items()}
        still_statistics(net)
        train(run, losses_at)
        keep_ranges(net, released)
    else:
        net.train()
        train(run, losses_at)
    if OWN_HEAD.intersection(each.term for each in member.losses):
        save_head(folder, own_head, decoded.classes)
    save_weights(folder.weights, net, {"run": digest})
    return net.eval()
