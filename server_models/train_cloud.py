"""Recipe: the gallery model, a pretrained network fine-tuned with a margin softmax."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from compat.files import write_atomic
from compat.losses.margin import margin_loss
from compat.wire import canonical_json
from server_models.augment import augmented, camera
from server_models.checkpoint import save_weights
from server_models.config import CloudConfig, FamilyConfig
from server_models.heads import NormalisedHead
from server_models.loop import Run, batch_rows, step_seed, train
from server_models.pixels import Decoded
from server_models.query_net import Net, begin_cloud, build
from server_models.run_folder import RunFolder


def train_cloud(
    family: FamilyConfig,
    cloud: CloudConfig,
    decoded: Decoded,
    *,
    data_digest: str,
    folder: RunFolder,
) -> None:
    """Train ``cloud`` of a family to the end, or go on from where it stopped."""
    recipe = cloud.preprocess
    torch.manual_seed(family.seed)
    net = build(cloud, family.dim)
    begin_cloud(net, cloud)
    head = NormalisedHead(len(decoded.classes), family.dim)
    whole = nn.ModuleDict({"net": net, "head": head})
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    config = {"seed": family.seed, "dim": family.dim, **cloud.model_dump(mode="json")}
    digest = folder.describe(config, data_digest=data_digest)
    targets = torch.from_numpy(decoded.targets())  # (N,)
    augment = camera()
    optimizer = cloud_optimizer(net, head, cloud)
    run = Run(folder, digest, f"train {cloud.name}", cloud.schedule, family.seed,
              {"whole": whole}, optimizer)  # fmt: skip

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = batch_rows(family.seed, step, cloud.schedule.batch, len(decoded.pixels))  # (B,)
        pixels = augmented(decoded.pixels[rows], augment, seed=step_seed(family.seed, step))
        images = torch.from_numpy(recipe.normalised(pixels)).permute(0, 3, 1, 2)  # (B, 3, S, S)
        embeddings = net(images)  # (B, D)
        each = margin_loss(
            embeddings, targets[rows], head.weight, scale=cloud.scale, margin=cloud.margin
        )  # (B,)
        return {"margin": each.mean()}

    whole.train()
    train(run, losses_at)
    save_classes(folder, decoded.classes)
    save_weights(folder.weights, whole, {"run": digest})


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


def save_classes(folder: RunFolder, classes: Sequence[str]) -> None:
    """Which class each row of the head is of: an upgrade reads the old head by name."""
    write_atomic(folder.classes, canonical_json(list(classes)))
