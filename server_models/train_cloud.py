"""Recipe: the gallery model, an ImageNet network fine-tuned with a margin softmax."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compat.losses.margin import margin_loss
from server_models.augment import augmented, camera
from server_models.checkpoint import save_weights
from server_models.config import CloudConfig, FamilyConfig
from server_models.heads import NormalisedHead
from server_models.lite_net import LiteNet
from server_models.loop import Run, batch_rows, step_seed, train
from server_models.pixels import Decoded
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
    net = LiteNet(cloud.backbone, family.dim, frozen_blocks=cloud.frozen_blocks)
    net.load_imagenet()
    head = NormalisedHead(len(decoded.classes), family.dim)
    whole = nn.ModuleDict({"net": net, "head": head})
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    config = {"seed": family.seed, "dim": family.dim, **cloud.model_dump(mode="json")}
    digest = folder.describe(config, data_digest=data_digest)
    targets = torch.from_numpy(decoded.targets())  # (N,)
    augment = camera()
    fresh = [*net.embed.parameters(), *head.parameters()]
    tuned = [p for p in net.trunk.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": tuned, "lr": cloud.schedule.learning_rate},
            {"params": fresh, "lr": cloud.head_learning_rate},
        ],
        weight_decay=cloud.schedule.weight_decay,
    )
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
    save_weights(folder.weights, whole, {"run": digest})
