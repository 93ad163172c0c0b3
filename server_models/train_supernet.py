"""Recipe: the supernet, one slice a step, with the compatibility losses of a member."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from compat.preprocess import Floats, Preprocess
from server_models.checkpoint import save_weights
from server_models.config import FamilyConfig, SearchConfig
from server_models.gallery_model import GalleryModel
from server_models.heads import NormalisedHead
from server_models.lesson import Lesson
from server_models.loop import Run, step_seed, train
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded
from server_models.run_folder import RunFolder
from server_models.supernet import SuperNet


def sized(recipe: Preprocess, size_px: int) -> Preprocess:
    """The member's recipe at another side."""
    return recipe.model_copy(update={"size_px": size_px})


def train_supernet(
    family: FamilyConfig,
    search: SearchConfig,
    member: MemberConfig,
    decoded: Mapping[int, Decoded],
    gallery_model: GalleryModel,
    *,
    anchors: Floats,
    data_digest: str,
    folder: RunFolder,
) -> SuperNet:
    """Train to the end, or go on from where it stopped; a finished run is loaded.

    Args:
        decoded: every training image, for each side in ``search.space.sizes_px``.
        anchors: (N, D), what the frozen gallery model says of the training images, in order.

    Warm-up without sampling first, else it does not converge (arXiv:2105.06047, section 4.2).
    """
    torch.manual_seed(family.seed)
    net = SuperNet(search.space, family.dim)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    any_size = next(iter(decoded.values()))
    lesson = Lesson.of(family, member, any_size, gallery_model.head, anchors)
    config = {
        "seed": family.seed,
        "dim": family.dim,
        "gallery": lesson.gallery_digest,
        "space": search.space.model_dump(mode="json"),
        "warm_up_steps": search.warm_up_steps,
        "schedule": search.schedule.model_dump(mode="json"),
        "losses": [term.model_dump(mode="json") for term in member.losses],
        "aim": member.aim,
        "preprocess": member.preprocess.model_dump(mode="json"),
    }
    digest = folder.describe(config, data_digest=data_digest)
    own_head = NormalisedHead(len(any_size.classes), family.dim)
    optimizer = torch.optim.AdamW(
        [*net.parameters(), *own_head.parameters()],
        lr=search.schedule.learning_rate,
        weight_decay=search.schedule.weight_decay,
    )
    run = Run(folder, digest, "train the supernet", search.schedule, family.seed,
              {"net": net, "own_head": own_head}, (optimizer,))  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        warming = step < search.warm_up_steps
        rng = np.random.default_rng(step_seed(family.seed, step))
        decisions = search.space.largest() if warming else search.space.draw(rng)
        size_px = decisions["size_px"]
        rows = lesson.rows_at(step, search.schedule.batch)  # (B,)
        images = lesson.images_at(step, rows, decoded[size_px], sized(member.preprocess, size_px))
        query = net(images, decisions, all_kernels=warming)  # (B, D)
        return lesson.losses(query, rows, own_head.weight)

    net.train()
    train(run, losses_at)
    save_weights(folder.weights, net, {"run": digest})
    return net
