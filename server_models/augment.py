"""What a phone camera does to a picture: geometry, light and colour, as a function of a seed."""

import warnings

import numpy as np
import torch
from torch import nn

from compat.preprocess import Pixels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kornia.augmentation as K


def camera(*, strength: float = 1.0) -> nn.Module:
    """Rotation, shift, zoom, flip, light and colour. Hue stays: it costs too much."""
    return nn.Sequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(
            degrees=12 * strength,
            translate=(0.08 * strength, 0.08 * strength),
            scale=(1 - 0.2 * strength, 1 + 0.2 * strength),
            padding_mode="border",
            p=0.9,
        ),
        K.ColorJitter(0.25 * strength, 0.25 * strength, 0.25 * strength, 0.0, p=0.8),
    )


def augmented(pixels: Pixels, augment: nn.Module, seed: int) -> Pixels:
    """(B, S, S, 3) uint8 -> same, changed by ``augment`` alone and ``seed``; the input stays."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)  # (B, 3, S, S)
        images = augment(images).clamp_(0, 1).mul_(255).round_()
    changed: Pixels = images.permute(0, 2, 3, 1).contiguous().numpy().astype(np.uint8)
    return changed
