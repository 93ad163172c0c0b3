"""See the gallery as the gallery model sees it: contextual similarity distillation (CSD)."""

import torch.nn.functional as F
from torch import Tensor


def csd_loss(
    query: Tensor,
    gallery: Tensor,
    anchors: Tensor,
    *,
    neighbours: int = 64,
    query_temperature: float = 0.1,
    gallery_temperature: float = 0.05,
) -> Tensor:
    """KL( softmax(g . G_k / tau_g) || softmax(q . G_k / tau_q) ), G_k the K anchors nearest to g.

    (N, D), (N, D), (M, D) -> (N,), in nats, >= 0. Needs no labels. Wu et al., CVPR 2022, eq. 5;
    the paper's temperatures are 1 and 0.01, here both sides are read alike.
    """
    query, gallery = F.normalize(query), F.normalize(gallery.detach())
    anchors = F.normalize(anchors.detach())
    seen = gallery @ anchors.T  # (N, M)
    nearest, columns = seen.topk(min(neighbours, len(anchors)), dim=1)  # (N, K)
    wanted = F.softmax(nearest / gallery_temperature, dim=1)
    found = (query @ anchors.T).gather(1, columns) / query_temperature  # (N, K)
    return F.kl_div(F.log_softmax(found, dim=1), wanted, reduction="none").sum(dim=1)
