"""Distil distances and angles inside a batch: a baseline, blind to the gallery's coordinates."""

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLE_WEIGHT = 2.0  # of angles beside distances, as in the paper


def rkd_loss(query: Tensor, gallery: Tensor) -> Tensor:
    """Huber error of mean-normalised distances + 2 * Huber error of angles, row by row.

    (N, D), (N, D) of the same images -> (N,). Any rotation of the query space costs nothing, so
    nothing ties it to the gallery's. RKD, arXiv:1904.05068, eq. 4 to 8.
    """
    query, gallery = F.normalize(query), F.normalize(gallery.detach())
    distances = F.smooth_l1_loss(_distances(query), _distances(gallery), reduction="none").mean(1)
    angles = F.smooth_l1_loss(_angles(query), _angles(gallery), reduction="none").mean((1, 2))
    return distances + ANGLE_WEIGHT * angles


def _distances(rows: Tensor) -> Tensor:
    """(N, D) -> (N, N) Euclidean, over their mean off the diagonal."""
    squared = (rows[:, None] - rows[None, :]).square().sum(2)
    apart = ~torch.eye(len(rows), dtype=torch.bool)
    distances = torch.where(apart, squared.clamp(min=1e-12).sqrt(), squared)
    return distances / distances[apart].mean() if len(rows) > 1 else distances


def _angles(rows: Tensor) -> Tensor:
    """(N, D) -> (N, N, N): cosine of the angle at item i between items j and k."""
    towards = F.normalize(rows[None, :] - rows[:, None], dim=2)  # (N, N, D)
    return towards @ towards.transpose(1, 2)
