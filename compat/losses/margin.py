"""Large-margin softmax over normalised embeddings and a normalised head (CosFace)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def margin_loss(
    embeddings: Tensor, labels: Tensor, head: Tensor, *, scale: float, margin: float
) -> Tensor:
    """Cross entropy in nats of ``scale * (cos - margin at the true class)``.

    (N, D), (N,) int64, (C, D) -> (N,). ``margin`` 0 is the normalised softmax.
    CosFace, arXiv:1801.09414, eq. 4.
    """
    cosines = F.linear(F.normalize(embeddings), F.normalize(head))  # (N, C)
    true_class = torch.zeros_like(cosines).scatter_(1, labels[:, None], margin)
    return F.cross_entropy(scale * (cosines - true_class), labels, reduction="none")
