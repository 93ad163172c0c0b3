"""Edge networks: inverted residuals with ReLU6, the operators that int8 and phones like best."""

from dataclasses import dataclass

from torch import Tensor, nn

from server_models.config import EdgeBackbone


@dataclass(frozen=True)
class Stage:
    """``repeats`` inverted residuals; the first one strides."""

    expand: int
    channels: int
    repeats: int
    stride: int
    kernel: int = 3


@dataclass(frozen=True)
class EdgeSpec:
    """A network by its numbers."""

    stem: int
    stages: tuple[Stage, ...]
    features: int  # width of the feature vector


SPECS: dict[EdgeBackbone, EdgeSpec] = {
    # about 2.4 M MACs at 64 px
    "kin-s": EdgeSpec(
        stem=8,
        stages=(
            Stage(3, 12, 2, 2),
            Stage(4, 20, 2, 2),
            Stage(3, 40, 2, 2),
            Stage(4, 56, 2, 1),
        ),
        features=512,
    ),
    # about 12 M MACs at 96 px
    "kin-m": EdgeSpec(
        stem=16,
        stages=(
            Stage(1, 8, 1, 1),
            Stage(4, 16, 2, 2),
            Stage(5, 24, 3, 2),
            Stage(5, 48, 4, 2),
            Stage(5, 96, 3, 2),
        ),
        features=768,
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

    def __init__(self, spec: EdgeSpec, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, spec.stem, 3, stride=2), nn.ReLU6(inplace=True)]
        into = spec.stem
        for stage in spec.stages:
            for turn in range(stage.repeats):
                stride = stage.stride if turn == 0 else 1
                layers.append(
                    InvertedResidual(into, stage.channels, stride, stage.expand, stage.kernel)
                )
                into = stage.channels
        self.trunk = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.widen = nn.Sequential(nn.Linear(into, spec.features), nn.ReLU6())  # cheap once pooled
        self.embed = nn.Linear(spec.features, dim)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, F) pooled."""
        pooled: Tensor = self.widen(self.pool(self.trunk(x)).flatten(1))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.features(x))
        return embedding
