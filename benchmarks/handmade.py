"""Networks that people made by hand, narrowed to a budget: what a searched network has to beat.

MobileNetV2 (arXiv:1801.04381, table 2), MobileNetV3-Small (arXiv:1905.02244, table 2) and
ShuffleNetV2 (arXiv:1807.11164, table 5) with the layers, strides and activations of their papers
and every width times one factor. After the pooling all have the head of our edge networks
(`EdgeNet`), so bodies are compared and not heads; MobileNetV2's last convolution, which widens
before the pooling at 49 times the cost, is left out for it.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from compat.errors import UsageError
from server_models.edge_net import InvertedResidual
from server_models.export import count_macs

FEATURES = 512  # of the head, as in `server_models.architecture`
STEP = 0.01  # of the width factor
NARROWEST = 0.1

# expand, channels, repeats, stride of the first
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
# kernel, expanded channels, channels, squeeze and excite, h-swish, stride
MOBILENET_V3_SMALL = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip
SHUFFLENET_V2 = ((116, 4), (232, 8), (464, 4))  # channels, blocks; the first block strides


def _wide(channels: float) -> int:
    """The nearest multiple of 4, at least 4."""
    return max(4, 4 * round(channels / 4))


def _conv(
    into: int, out: int, kernel: int, act: nn.Module | None, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [conv, nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, *([act] if act else []))


class _Net(nn.Module):
    """(N, 3, S, S) float32 normalised -> (N, D) raw embedding."""

    def __init__(self, trunk: nn.Module, channels: int, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.widen = nn.Sequential(nn.Linear(channels, FEATURES), nn.ReLU6())
        self.embed = nn.Linear(FEATURES, dim)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.widen(self.pool(self.trunk(x)).flatten(1)))
        return embedding


def mobilenet_v2(width: float, dim: int) -> nn.Module:
    into = _wide(32 * width)
    layers: list[nn.Module] = [_conv(3, into, 3, nn.ReLU6(), stride=2)]
    for expand, channels, repeats, stride in MOBILENET_V2:
        out = _wide(channels * width)
        for turn in range(repeats):
            layers.append(InvertedResidual(into, out, stride if turn == 0 else 1, expand, 3))
            into = out
    return _Net(nn.Sequential(*layers), into, dim)


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _wide(channels / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * self.gate(x)
        return gated


class _Bneck(nn.Module):
    """MobileNetV3's inverted residual."""

    def __init__(
        self, into: int, wide: int, out: int, *, kernel: int, excite: bool, swish: bool, stride: int
    ) -> None:
        super().__init__()
        act = nn.Hardswish if swish else nn.ReLU
        layers = [] if wide == into else [_conv(into, wide, 1, act())]
        layers.append(_conv(wide, wide, kernel, act(), stride, groups=wide))
        if excite:
            layers.append(nn.Sequential(_SqueezeExcite(wide)))
        layers.append(_conv(wide, out, 1, None))
        self.body = nn.Sequential(*layers)
        self.is_residual = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.is_residual else y


def mobilenet_v3(width: float, dim: int) -> nn.Module:
    into = _wide(16 * width)
    layers: list[nn.Module] = [_conv(3, into, 3, nn.Hardswish(), stride=2)]
    for kernel, wide, channels, excite, swish, stride in MOBILENET_V3_SMALL:
        out = _wide(channels * width)
        layers.append(
            _Bneck(
                into, _wide(wide * width), out,
                kernel=kernel, excite=excite, swish=swish, stride=stride,
            )
        )  # fmt: skip
        into = out
    last = _wide(576 * width)
    layers.append(_conv(into, last, 1, nn.Hardswish()))
    return _Net(nn.Sequential(*layers), last, dim)


class _Shuffle(nn.Module):
    """ShuffleNetV2's block: one half passes, the other is filtered, then both are mixed."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.strides = stride == 2
        taken = into if self.strides else half
        self.filtered = nn.Sequential(
            _conv(taken, half, 1, nn.ReLU()),
            _conv(half, half, 3, None, stride, groups=half),
            _conv(half, half, 1, nn.ReLU()),
        )
        self.passed: nn.Module = nn.Identity()
        if self.strides:
            self.passed = nn.Sequential(
                _conv(into, into, 3, None, stride, groups=into), _conv(into, half, 1, nn.ReLU())
            )

    def forward(self, x: Tensor) -> Tensor:
        passed, taken = (x, x) if self.strides else x.chunk(2, dim=1)
        y = torch.cat([self.passed(passed), self.filtered(taken)], dim=1)
        n, channels, height, width = y.shape
        y = y.reshape(n, 2, channels // 2, height, width).transpose(1, 2)
        return y.reshape(n, channels, height, width)


def shufflenet_v2(width: float, dim: int) -> nn.Module:
    into = _wide(24 * width)
    layers: list[nn.Module] = [_conv(3, into, 3, nn.ReLU(), stride=2), nn.MaxPool2d(3, 2, 1)]
    for channels, blocks in SHUFFLENET_V2:
        out = _wide(channels * width)
        for turn in range(blocks):
            layers.append(_Shuffle(into, out, 2 if turn == 0 else 1))
            into = out
    last = _wide(1024 * width)
    layers.append(_conv(into, last, 1, nn.ReLU()))
    return _Net(nn.Sequential(*layers), last, dim)


FAMILIES: Mapping[str, Callable[[float, int], nn.Module]] = {
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3-small": mobilenet_v3,
    "shufflenet-v2": shufflenet_v2,
}


def widest(family: str, dim: int, *, size_px: int, max_macs: int) -> float:
    """The largest width factor in [0.1, 1] whose network costs at most ``max_macs``.

    Raises:
        UsageError: even the narrowest costs more.
    """
    factors = [round(NARROWEST + STEP * turn, 2) for turn in range(round((1 - NARROWEST) / STEP))]
    fitting = bisect_right(
        factors, max_macs, key=lambda width: count_macs(FAMILIES[family](width, dim), size_px)
    )
    if not fitting:
        raise UsageError(f"the narrowest {family} costs more than {max_macs} MACs")
    return factors[fitting - 1]
