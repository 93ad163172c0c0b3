"""A head for classes that the frozen one never saw, or where there is none: BCT, synthesised."""

import torch
import torch.nn.functional as F
from torch import Tensor


def synthesised_head(embeddings: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    """Mean direction of the gallery model's embeddings of each class, as rows of a classifier.

    (M, D), (M,) int64 in [0, classes) -> (classes, D), rows of L2 norm 1; a class without an
    embedding has a row of 0, which no query is pulled to. `influence_loss` reads with it.
    arXiv:2003.11942, section 3.4.
    """
    sums = torch.zeros(classes, embeddings.shape[1], dtype=embeddings.dtype)
    sums.index_add_(0, labels, F.normalize(embeddings.detach()))
    return F.normalize(sums)
