"""Edge networks: inverted residuals with ReLU6, the operators that int8 and phones like best."""

from torch import Tensor, nn

from server_models.architecture import Architecture, Layer
from server_models.cloud_config import EdgeBackbone


def _stage(expand: int, channels: int, repeats: int, stride: int) -> tuple[Layer, ...]:
    """``repeats`` layers; the first one strides."""
    return tuple(
        Layer(expand=expand, channels=channels, stride=stride if turn == 0 else 1)
        for turn in range(repeats)
    )


SPECS: dict[EdgeBackbone, Architecture] = {
    # 2.4 M MACs
    "kin-s": Architecture(
        stem=8,
        layers=(
            *_stage(3, 12, 2, 2),
            *_stage(4, 20, 2, 2),
            *_stage(3, 40, 2, 2),
            *_stage(4, 56, 2, 1),
        ),
        features=512,
        size_px=64,
    ),
    # 2.4 M MACs: the same layers, its features made before pooling
    "kin-w": Architecture(
        stem=8,
        layers=(
            *_stage(3, 12, 2, 2),
            *_stage(4, 20, 2, 2),
            *_stage(3, 40, 2, 2),
            *_stage(4, 56, 2, 1),
        ),
        features=384,
        features_of="map",
        size_px=56,
    ),
    # 13 M MACs
    "kin-m": Architecture(
        stem=16,
        layers=(
            *_stage(1, 8, 1, 1),
            *_stage(4, 16, 2, 2),
            *_stage(5, 24, 3, 2),
            *_stage(5, 48, 4, 2),
            *_stage(5, 96, 3, 2),
        ),
        features=768,
        size_px=96,
    ),
}


def _conv(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; add the input where shapes allow (arXiv:1801.04381)."""

    def __init__(self, into: int, out: int, stride: int, expand: int, kernel: int) -> None:
        super().__init__()
        wide = into * expand
        layers = [] if expand == 1 else [_conv(into, wide, 1), nn.ReLU6(inplace=True)]
        layers += [
            _conv(wide, wide, kernel, stride, groups=wide),
            nn.ReLU6(inplace=True),
            _conv(wide, out, 1),
        ]
        self.body = nn.Sequential(*layers)
        self.is_residual = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.is_residual else y


class EdgeNet(nn.Module):
    """(N, 3, S, S) float32 normalised -> (N, D) raw embedding; the embedder gives it norm 1."""

    def __init__(self, spec: Architecture, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, spec.stem, 3, stride=2), nn.ReLU6(inplace=True)]
        into = spec.stem
        for layer in spec.layers:
            layers.append(
                InvertedResidual(into, layer.channels, layer.stride, layer.expand, layer.kernel)
            )
            into = layer.channels
        self.trunk = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.features_of = spec.features_of
        on_map = spec.features_of == "map"
        wide = _conv(into, spec.features, 1) if on_map else nn.Linear(into, spec.features)
        self.widen = nn.Sequential(wide, nn.ReLU6())
        self.embed = nn.Linear(spec.features, dim)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, F) pooled."""
        seen: Tensor = self.trunk(x)
        if self.features_of == "map":
            mapped: Tensor = self.pool(self.widen(seen)).flatten(1)
            return mapped
        pooled: Tensor = self.widen(self.pool(seen).flatten(1))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.features(x))
        return embedding
