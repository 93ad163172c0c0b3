"""Pixels to embeddings by the training framework."""

import numpy as np
import torch
from rich.progress import track
from torch import nn

from compat.embedding import unit_rows
from compat.preprocess import Floats, Pixels, Preprocess
from compat.terminal import STDERR

EMBED_BATCH = 64


def embed_all(net: nn.Module, recipe: Preprocess, pixels: Pixels, *, title: str = "") -> Floats:
    """(N, S, S, 3) uint8 -> (N, D) float32 by the training framework, rows of L2 norm 1.

    A ``title`` shows progress.
    """
    net.eval()
    rows = []
    with torch.inference_mode():
        for start in track(
            range(0, len(pixels), EMBED_BATCH),
            title,
            transient=True,
            disable=not title,
            console=STDERR,
        ):
            batch = torch.from_numpy(recipe.normalised(pixels[start : start + EMBED_BATCH]))
            rows.append(net(batch.permute(0, 3, 1, 2)).numpy())  # (B, D)
    return unit_rows(np.concatenate(rows), title or "embeddings")
