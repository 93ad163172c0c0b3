"""Recipe: the gallery model, trained with a margin softmax, most often from pretrained weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from compat.errors import ConfigError
from compat.files import write_atomic
from compat.losses.margin import margin_loss
from compat.wire import canonical_json
from server_models.augment import augmented, camera
from server_models.checkpoint import save_weights
from server_models.cloud_config import CloudConfig
from server_models.config import FamilyConfig
from server_models.heads import NormalisedHead
from server_models.loop import Rows, Run, batch_rows, step_seed, train
from server_models.pixels import Decoded
from server_models.precision import fast
from server_models.query_net import Net, begin_cloud, build
from server_models.run_folder import RunFolder

Losses = Callable[[Tensor, Rows, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Start:
    """A trained network to begin with, instead of the weights that come with the backbone."""

    net: nn.Module
    digest: str  # of its weights


def train_cloud(
    family: FamilyConfig,
    cloud: CloudConfig,
    decoded: Decoded,
    *,
    data_digest: str,
    folder: RunFolder,
    start: Start | None = None,
) -> None:
    """Train ``cloud`` of a family to the end, or go on from where it stopped."""
    targets = torch.from_numpy(decoded.targets())  # (N,)

    def losses(embeddings: Tensor, rows: Rows, head: Tensor) -> Mapping[str, Tensor]:
        each = margin_loss(
            embeddings, targets[rows], head, scale=cloud.scale, margin=cloud.margin
        )  # (B,)
        return {"margin": each.mean()}

    fit_cloud(
        family, cloud, decoded, losses, {},
        title="train", data_digest=data_digest, folder=folder, start=start,
    )  # fmt: skip


def fit_cloud(
    family: FamilyConfig,
    cloud: CloudConfig,
    decoded: Decoded,
    losses: Losses,
    also: Mapping[str, object],
    *,
    title: str,
    data_digest: str,
    folder: RunFolder,
    start: Start | None = None,
) -> None:
    """The frame of a gallery model's training: network, head, augmented images, what is kept.

    Args:
        losses: (B, D) embeddings, (B,) rows of ``decoded``, (C, D) the head -> () terms to sum.
        also: what decides the result beside the family's own sections.

    Raises:
        ConfigError: ``start`` is of another backbone or dimension.
    """
    recipe = cloud.preprocess
    torch.manual_seed(family.seed)
    net = build(cloud, family.dim)
    _begin(net, cloud, start)
    head = NormalisedHead(len(decoded.classes), family.dim)
    whole = nn.ModuleDict({"net": net, "head": head})
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    config = {"seed": family.seed, "dim": family.dim, **cloud.model_dump(mode="json"), **also}
    if start:
        config["start"] = start.digest
    digest = folder.describe(config, data_digest=data_digest)
    augment = camera()
    optimizer = cloud_optimizer(net, head, cloud)
    run = Run(folder, digest, f"{title} {cloud.name}", cloud.schedule, family.seed,
              {"whole": whole}, (optimizer,))  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = batch_rows(family.seed, step, cloud.schedule.batch, len(decoded.pixels))  # (B,)
        pixels = augmented(decoded.pixels[rows], augment, seed=step_seed(family.seed, step))
        images = torch.from_numpy(recipe.normalised(pixels)).permute(0, 3, 1, 2)  # (B, 3, S, S)
        with fast(net):
            embeddings = net(images)  # (B, D)
        return losses(embeddings.float(), rows, head.weight)

    whole.train()
    train(run, losses_at)
    write_atomic(folder.classes, canonical_json(list(decoded.classes)))
    save_weights(folder.weights, whole, {"run": digest})


def _begin(net: Net, cloud: CloudConfig, start: Start | None) -> None:
    if start is None:
        begin_cloud(net, cloud)
        return
    try:
        net.load_state_dict(start.net.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"{cloud.name} has another backbone or dim than the old model, so it cannot begin with "
            'its weights: set start = "backbone" in [upgrade]'
        ) from error


def cloud_optimizer(net: Net, head: NormalisedHead, cloud: CloudConfig) -> AdamW:
    """The embedding layer and the head are fresh and learn faster than what was pretrained."""
    fresh = [*net.embed.parameters(), *head.parameters()]
    begun = {id(parameter) for parameter in fresh}
    tuned = [p for p in net.parameters() if p.requires_grad and id(p) not in begun]
    return AdamW(
        [
            {"params": tuned, "lr": cloud.schedule.learning_rate},
            {"params": fresh, "lr": cloud.head_learning_rate},
        ],
        weight_decay=cloud.schedule.weight_decay,
    )
