"""Make the starter weights: distil a packaged ImageNet network into one of ours.

    python -m benchmarks.starters kin-s --steps 5000
    python -m benchmarks.starters kin-m --steps 1600
    python -m benchmarks.starters kin-w --trunk-of kin-s
    python -m benchmarks.starters resnet18-w32 --steps 1600

The pool is unlabelled and holds no test or validation class (`benchmarks.data.pool`). The teacher
is EfficientNet-Lite0 at 128 px; its pooled features, reduced by PCA, are what the student regresses
to, with the relation term beside. Resumable; writes server_models/starter_weights/NAME.safetensors.
Features are made unit vectors before the PCA; the kin-s and kin-m that ship were made without that.
"""

import argparse
import csv
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from benchmarks.data.cache import cache_folder
from compat.dataset import LabelledImage
from compat.files import digest_of, write_atomic
from compat.losses.csd import csd_loss
from compat.losses.regression import regression_loss
from compat.preprocess import Preprocess
from server_models.augment import augmented, camera
from server_models.cloud_config import EdgeBackbone
from server_models.config_section import Schedule
from server_models.edge_net import SPECS, EdgeNet
from server_models.gallery_model import TrainedGallery
from server_models.lite_net import IMAGENET_MEAN, IMAGENET_STD, LiteNet
from server_models.loop import Run, batch_rows, train
from server_models.pixels import decode_all
from server_models.precision import fast
from server_models.query_net import Net
from server_models.residual_net import ResidualNet
from server_models.run_folder import RunFolder

TEACHER = Preprocess(size_px=128, mean=IMAGENET_MEAN, std=IMAGENET_STD)
STUDENT_PX = {"kin-s": 64, "kin-w": 56, "kin-m": 96, "resnet18-w32": 64}
TARGET_DIM = 256
SEED = 0


def pool_images(listing: Path) -> tuple[LabelledImage, ...]:
    """Rows of the pool's CSV as images without a label."""
    with listing.open() as file:
        names = [row["path"] for row in csv.DictReader(file)]
    folder = listing.parent
    return tuple(LabelledImage(folder / name, name, "", "train", "query") for name in names)


def teacher() -> TrainedGallery:
    """An image's pooled ImageNet features, L2 = 1: D = 1280."""
    net = LiteNet("efficientnet-lite0", 2)
    net.load_imagenet()
    net.embed = nn.Identity()  # type: ignore[assignment]
    return TrainedGallery(net.eval(), None, TEACHER)


def student(backbone: str) -> Net:
    """With random weights and the targets' dimension."""
    if backbone == "resnet18-w32":
        return ResidualNet("resnet18-w32", TARGET_DIM)
    return EdgeNet(SPECS[cast(EdgeBackbone, backbone)], TARGET_DIM)


def reduced(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, F) -> (N, K): PCA, each axis scaled by the fourth root of its variance.

    Half-way to whitening: the leading axes are damped, the last ones are not blown up to noise.
    """
    centred = features - features.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    variance, axes = variance[::-1][:TARGET_DIM], axes[:, ::-1][:, :TARGET_DIM]
    return np.asarray(centred @ axes / variance**0.25, dtype=np.float32)


def targets_of(images: tuple[LabelledImage, ...], cache: Path) -> Tensor:
    """Teacher targets of the pool, made once: (N, K)."""
    key = digest_of("\n".join(image.name for image in images).encode())[:16]
    kept = cache / f"teacher-unit-{key}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, reduced(teacher().embed(images, title="teacher features")))
    return torch.from_numpy(np.load(kept, allow_pickle=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("backbone", choices=sorted(STUDENT_PX))
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--steps", type=int)
    how.add_argument("--trunk-of", choices=sorted(SPECS), help="take that starter's trunk")
    parser.add_argument("--pool", type=Path, default=cache_folder() / "pool.csv")
    given = parser.parse_args()
    if given.trunk_of and given.backbone not in SPECS:
        parser.error(f"{given.backbone} has no edge network's trunk: give --steps")
    if given.trunk_of:
        ship_trunk(given.backbone, given.trunk_of)
        return

    cache = cache_folder() / "starters"
    images = pool_images(given.pool)
    targets = targets_of(images, cache)  # (N, K)
    recipe = Preprocess(size_px=STUDENT_PX[given.backbone])
    decoded = decode_all(images, recipe, title="decode for the student")

    torch.manual_seed(SEED)
    net = student(given.backbone)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    schedule = Schedule(steps=given.steps, batch=96, learning_rate=3e-3, save_every_steps=200)
    optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.learning_rate, weight_decay=0.02)
    folder = RunFolder(cache / given.backbone)
    pool_digest = digest_of(given.pool.read_bytes())
    config = {"backbone": given.backbone, "teacher": "unit", **schedule.model_dump(mode="json")}
    digest = folder.describe(config, data_digest=pool_digest)
    title = f"starter {given.backbone}"
    run = Run(folder, digest, title, schedule, SEED, {"net": net}, (optimizer,))
    augment = camera()

    def losses_at(step: int) -> Mapping[str, Tensor]:
        rows = batch_rows(SEED, step, schedule.batch, len(images))  # (B,)
        pixels = augmented(decoded.pixels[rows], augment, seed=step)
        with fast(net):
            found = net(torch.from_numpy(recipe.normalised(pixels)).permute(0, 3, 1, 2))  # (B, K)
        found = found.float()
        wanted = targets[rows]  # (B, K)
        return {
            "regression": regression_loss(found, wanted).mean(),
            "relation": 0.5 * csd_loss(found, wanted, wanted).mean(),
        }

    net.train()
    train(run, losses_at)
    ship(net, given.backbone, given.steps, digest)


def ship_trunk(backbone: str, source: str) -> None:
    """The trunk of another starter, for a network that has the same one and features of its own."""
    folder = importlib.resources.files("server_models") / "starter_weights"
    blob = (folder / f"{source}.safetensors").read_bytes()
    state = {k: v for k, v in safetensors.torch.load(blob).items() if k.startswith("trunk.")}
    notes = {
        "recipe": f"python -m benchmarks.starters {backbone} --trunk-of {source}",
        "run": digest_of(blob),
        "licence": "Apache-2.0; distilled from EfficientNet-Lite0 (Apache-2.0)",
    }
    out = Path("server_models/starter_weights") / f"{backbone}.safetensors"
    write_atomic(out, safetensors.torch.save(state, notes))


def ship(net: Net, backbone: str, steps: int, digest: str) -> None:
    """Trunk and feature layer in half precision, with where they come from."""
    net.embed = nn.Identity()  # type: ignore[assignment]
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }
    notes = {
        "recipe": f"python -m benchmarks.starters {backbone} --steps {steps}",
        "run": digest,
        "licence": "Apache-2.0; distilled from EfficientNet-Lite0 (Apache-2.0)",
    }
    out = Path("server_models/starter_weights") / f"{backbone}.safetensors"
    write_atomic(out, safetensors.torch.save(state, notes))


if __name__ == "__main__":
    main()
