"""Keep the order of the gallery's nearest items: decoupled differential distillation (D3still)."""

import torch
import torch.nn.functional as F
from torch import Tensor

SOFTENING = 0.1  # of the relative error: differences near 0 are not blown up


def d3still_loss(
    query: Tensor,
    gallery: Tensor,
    anchors: Tensor,
    *,
    neighbours: int = 10,
    order_weight: float = 0.05,
    spread_weight: float = 0.01,
) -> Tensor:
    """Squared distance + relative errors of pairwise similarity differences among K neighbours.

    (N, D), (N, D), (M, D) -> (N,). G_k are the K anchors nearest to g, t = g . G_k descending and
    s = q . G_k. For i < j: e = ((s_i - s_j) - (t_i - t_j)) / (0.1 + |t_i - t_j|); the mean of e^2
    over pairs in the wrong order (s_i < s_j) weighs five times that over the others: 5 and 1 beside
    100 for the regression, as in the paper. D3still, CVPR 2024; the form of its weights is ours.
    """
    query, gallery = F.normalize(query), F.normalize(gallery.detach())
    anchors = F.normalize(anchors.detach())
    nearest, columns = (gallery @ anchors.T).topk(min(neighbours, len(anchors)), dim=1)  # (N, K)
    found = (query @ anchors.T).gather(1, columns)  # (N, K)
    i, j = torch.triu_indices(nearest.shape[1], nearest.shape[1], offset=1)
    wanted_gap = nearest[:, i] - nearest[:, j]  # (N, P) >= 0
    gap = found[:, i] - found[:, j]
    errors = ((gap - wanted_gap) / (SOFTENING + wanted_gap)).square()  # (N, P)
    wrong = (gap < 0).to(errors.dtype)
    ordered = (errors * wrong).sum(1) / wrong.sum(1).clamp(min=1)
    spread = (errors * (1 - wrong)).sum(1) / (1 - wrong).sum(1).clamp(min=1)
    regression = (query - gallery).square().sum(1)
    return regression + order_weight * ordered + spread_weight * spread
