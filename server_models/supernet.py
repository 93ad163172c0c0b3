"""Every network of a search space in one: the largest, of which the others are slices.

Single path one-shot (SPOS, arXiv:1904.00420): a step trains the one slice that was drawn for it. A
slice takes the first channels of each layer, the middle of each kernel, the first layers of each
stage. Batch statistics are the batch's own while training; a candidate is cut out as a network of
its own (`inherit`) and has its statistics measured anew (`recalibrate`), since those of the
supernet are a mixture of all.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_models.architecture import Layer, SearchSpace
from server_models.edge_net import EdgeNet, InvertedResidual


def _middle(weight: Tensor, kernel: int) -> Tensor:
    """(O, I, K, K) -> (O, I, kernel, kernel), the middle of each filter."""
    rim = (weight.shape[-1] - kernel) // 2
    return weight[..., rim : rim + kernel, rim : rim + kernel] if rim else weight


class _Sliced(nn.Module):
    """A convolution and its batch norm, as wide as they get."""

    def __init__(self, into: int, out: int, kernel: int, *, is_depthwise: bool = False) -> None:
        super().__init__()
        groups = out if is_depthwise else 1
        self.conv = nn.Conv2d(into, out, kernel, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, track_running_stats=False)
        self.is_depthwise = is_depthwise

    def weight(self, into: int, out: int, kernel: int) -> Tensor:
        """(out, into / groups, kernel, kernel): what a slice of that size uses."""
        shared = self.conv.weight[:out, : 1 if self.is_depthwise else into]
        return _middle(shared, kernel)

    def forward(self, x: Tensor, out: int, kernels: tuple[int, ...], stride: int = 1) -> Tensor:
        """The mean over ``kernels``: for a linear filter, the filter with the mean weight."""
        widest = max(kernels)
        weight = torch.stack(
            [
                F.pad(self.weight(x.shape[1], out, kernel), ((widest - kernel) // 2,) * 4)
                for kernel in kernels
            ]
        ).mean(0)
        groups = out if self.is_depthwise else 1
        y = F.conv2d(x, weight, stride=stride, padding=widest // 2, groups=groups)
        return F.batch_norm(
            y, None, None, self.norm.weight[:out], self.norm.bias[:out], training=True
        )


class _SuperLayer(nn.Module):
    """One inverted residual, as wide as it gets."""

    def __init__(self, into: int, layer: Layer, expand: int) -> None:
        super().__init__()
        wide = into * expand
        self.expand = _Sliced(into, wide, 1)
        self.depthwise = _Sliced(wide, wide, layer.kernel, is_depthwise=True)
        self.project = _Sliced(wide, layer.channels, 1)

    def forward(self, x: Tensor, layer: Layer, kernels: tuple[int, ...]) -> Tensor:
        wide = x.shape[1] * layer.expand
        y: Tensor = x if layer.expand == 1 else F.relu6(self.expand(x, wide, (1,)))
        y = F.relu6(self.depthwise(y, wide, kernels, layer.stride))
        y = self.project(y, layer.channels, (1,))
        return x + y if layer.stride == 1 and x.shape == y.shape else y


class SuperNet(nn.Module):
    """(N, 3, S, S), decisions of ``space`` -> (N, D) raw embedding."""

    def __init__(self, space: SearchSpace, dim: int) -> None:
        super().__init__()
        self.space = space
        deepest = space.depths[-1]
        self.stem = _Sliced(3, space.stem, 3)
        stages, into = [], space.stem
        for widths in space.widths:
            layers = []
            for _ in range(deepest):
                widest = Layer(channels=widths[-1], kernel=space.kernels[-1], expand=1)
                layers.append(_SuperLayer(into, widest, space.expands[-1]))
                into = widths[-1]
            stages.append(nn.ModuleList(layers))
        self.stages = nn.ModuleList(stages)
        self.widen = nn.Linear(into, space.features)
        self.embed = nn.Linear(space.features, dim)

    def forward(self, x: Tensor, decisions: dict[str, int], *, all_kernels: bool = False) -> Tensor:
        """Run one slice; ``all_kernels`` = the warm-up, the mean of every kernel's filter."""
        net = self.space.build(decisions)
        y = F.relu6(self.stem(x, net.stem, (3,), 2))
        for super_layer, layer in zip(self._path(decisions), net.layers, strict=True):
            kernels = self.space.kernels if all_kernels else (layer.kernel,)
            y = super_layer(y, layer, kernels)
        pooled = y.mean((2, 3))  # (N, C)
        weight = self.widen.weight[:, : pooled.shape[1]]
        embedding: Tensor = self.embed(F.relu6(F.linear(pooled, weight, self.widen.bias)))
        return embedding

    def _path(self, decisions: dict[str, int]) -> list[_SuperLayer]:
        """The shared layer behind each layer of the slice: the first ones of each stage."""
        return [
            layers[place]  # type: ignore[index]
            for stage, layers in enumerate(self.stages)
            for place in range(decisions[f"stage{stage}.depth"])
        ]

    def inherit(self, decisions: dict[str, int], dim: int) -> EdgeNet:
        """A slice as a network of its own, begun with the weights that it uses here."""
        net = self.space.build(decisions)
        cut = EdgeNet(net, dim)
        with torch.no_grad():
            _copy(cut.trunk[0], self.stem, 3, net.stem, 3)
            into = net.stem
            residuals = [block for block in cut.trunk if isinstance(block, InvertedResidual)]
            for block, shared, layer in zip(
                residuals, self._path(decisions), net.layers, strict=True
            ):
                wide = into * layer.expand
                convs = [part for part in block.body if isinstance(part, nn.Sequential)]
                if layer.expand != 1:
                    _copy(convs[0], shared.expand, into, wide, 1)
                _copy(convs[-2], shared.depthwise, wide, wide, layer.kernel)
                _copy(convs[-1], shared.project, wide, layer.channels, 1)
                into = layer.channels
            cut.widen[0].weight.copy_(self.widen.weight[:, :into])  # type: ignore[operator]
            cut.widen[0].bias.copy_(self.widen.bias)  # type: ignore[operator]
            cut.embed.load_state_dict(self.embed.state_dict())
        return cut


def _copy(into: nn.Module, shared: _Sliced, channels: int, out: int, kernel: int) -> None:
    conv, norm = into[0], into[1]  # type: ignore[index]
    conv.weight.copy_(shared.weight(channels, out, kernel))
    norm.weight.copy_(shared.norm.weight[:out])
    norm.bias.copy_(shared.norm.bias[:out])


def recalibrate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the batch statistics of ``net`` anew: their mean over ``batches`` (B, 3, S, S)."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    net.train()
    with torch.no_grad():
        for batch in batches:
            net(batch)
    net.eval()
