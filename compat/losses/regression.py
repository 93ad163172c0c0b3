"""Land where the gallery model lands: regression of the normalised embedding."""

import torch.nn.functional as F
from torch import Tensor


def regression_loss(query: Tensor, gallery: Tensor) -> Tensor:
    """1 - cos(query, gallery) = half the squared distance of the unit vectors, in [0, 2].

    (N, D), (N, D) -> (N,). The anchor of asymmetric search: AML, CVPR 2021.
    """
    return 1.0 - F.cosine_similarity(query, gallery.detach())
