"""Keep the gallery model's geometry inside a batch: relational asymmetric metric learning."""

import torch
import torch.nn.functional as F
from torch import Tensor


def raml_loss(query: Tensor, gallery: Tensor) -> Tensor:
    """(1 - cos)^2 + how far the similarities to the others of the batch are from the gallery's.

    (N, D), (N, D) of the same images -> (N,). With Q, G unit rows, the relation terms are the mean
    over the other items of (QG^T - GG^T)^2 and of (QQ^T - GG^T)^2; a batch of 1 has none.
    RAML, WACV 2023.
    """
    query, gallery = F.normalize(query), F.normalize(gallery.detach())
    wanted = gallery @ gallery.T  # (N, N)
    others = 1 - torch.eye(len(query), dtype=query.dtype)
    off = (query @ gallery.T - wanted).square() + (query @ query.T - wanted).square()  # (N, N)
    relation = (off * others).sum(1) / max(1, len(query) - 1)
    return (1 - (query * gallery).sum(1)).square() + relation
