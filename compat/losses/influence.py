"""How badly the frozen head of another model reads these embeddings (BCT)."""

import torch.nn.functional as F
from torch import Tensor

from compat.losses.margin import margin_loss


def influence_loss(
    embeddings: Tensor, labels: Tensor, frozen_head: Tensor, *, scale: float
) -> Tensor:
    """L1(w_q, kappa_g): cross entropy under the gallery model's classifier, which does not move.

    (N, D), (N,) int64, (C, K) -> (N,), in nats. When D > K the head reads the first K dimensions.
    arXiv:2003.11942 eq. 4; arXiv:2105.06047 section 3.1.
    """
    dim = frozen_head.shape[1]
    return margin_loss(
        F.normalize(embeddings[:, :dim]), labels, frozen_head.detach(), scale=scale, margin=0.0
    )
