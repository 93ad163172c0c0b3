"""Asymmetric metric learning: query anchors against the gallery model's positives and negatives."""

import torch.nn.functional as F
from torch import Tensor


def aml_loss(
    query: Tensor, gallery: Tensor, labels: Tensor, gallery_labels: Tensor, *, margin: float = 0.7
) -> Tensor:
    """Mean of 1 - s over gallery items of the class + mean of max(0, s - margin) over the others.

    (N, D), (M, D), (N,), (M,) -> (N,), in [0, 2 + 1 - margin], s the cosine of query and gallery
    item. An empty side contributes 0. AML, CVPR 2021, contrastive form.
    """
    cosines = F.linear(F.normalize(query), F.normalize(gallery.detach()))  # (N, M)
    same = (labels[:, None] == gallery_labels[None, :]).to(cosines.dtype)  # (N, M)
    other = 1 - same
    attracted = ((1 - cosines) * same).sum(1) / same.sum(1).clamp(min=1)
    repelled = (F.relu(cosines - margin) * other).sum(1) / other.sum(1).clamp(min=1)
    return attracted + repelled
