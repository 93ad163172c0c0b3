"""The classifier over an embedding: one direction a class, its softmax over cosines."""

import torch
from torch import nn


class NormalisedHead(nn.Module):
    """Holds (C, D) directions; the losses normalise them."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dim))
