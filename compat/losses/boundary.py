"""Stay within the class's old boundary: the boundary term of learning compatible embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor


def class_radii(embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The largest 1 - cos of a gallery embedding of each class to the class's centre.

    (M, D), (M,) int64, (C, D) -> (C,), each in [0, 2]; 0 for a class without an embedding.
    """
    cosines = F.cosine_similarity(embeddings.detach(), centres[labels])  # (M,)
    radii = torch.zeros(len(centres), dtype=embeddings.dtype)
    return radii.scatter_reduce(0, labels, 1 - cosines, "amax")


def boundary_loss(query: Tensor, labels: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """max(0, (1 - cos(query, centre of its class)) - radius of the class).

    (N, D), (N,) int64, (C, D), (C,) -> (N,), in [0, 2]. LCE, ICCV 2021, the class-boundary term.
    """
    distance = 1 - F.cosine_similarity(query, centres.detach()[labels])
    return F.relu(distance - radii.detach()[labels])
