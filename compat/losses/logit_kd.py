"""Distil logits: a baseline that never sees the gallery's coordinates, and cannot land in them."""

import torch.nn.functional as F
from torch import Tensor


def logit_kd_loss(
    query_logits: Tensor, gallery_logits: Tensor, *, temperature: float = 4.0
) -> Tensor:
    """Cross entropy of two classifiers' softened answers times T^2: (N, C), (N, C) -> (N,), nats.

    Each model is read by its own head. arXiv:1503.02531, section 2.
    """
    wanted = F.softmax(gallery_logits.detach() / temperature, dim=1)
    found = F.log_softmax(query_logits / temperature, dim=1)
    return -(wanted * found).sum(1) * temperature**2
