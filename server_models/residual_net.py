"""A dense residual network: a gallery model dear enough to have members 80 times cheaper."""

from torch import Tensor, nn

from server_models.cloud_config import ResidualBackbone

WIDTHS: dict[ResidualBackbone, int] = {"resnet18-w32": 32}  # channels of the first stage
STAGES = (1, 2, 4, 8)  # times that width; every stage but the first halves the sides
BLOCKS = 2  # a stage


def _conv(into: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (arXiv:1512.03385, figure 2)."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(into, out, 3, stride), nn.ReLU(inplace=True), _conv(out, out, 3)
        )
        same = stride == 1 and into == out
        self.shortcut = nn.Identity() if same else _conv(into, out, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


class ResidualNet(nn.Module):
    """(N, 3, S, S) float32 normalised -> (N, D) raw embedding.

    ResNet-18 for small pictures: the stem keeps the resolution and nothing pools before the end.
    The embedding is centred over the batch, else a network that begins with nothing sends every
    image the same way at first; an exported file has that folded into its last layer.
    """

    def __init__(self, backbone: ResidualBackbone, dim: int) -> None:
        super().__init__()
        width = WIDTHS[backbone]
        layers: list[nn.Module] = [_conv(3, width, 3), nn.ReLU(inplace=True)]
        into = width
        for stage, times in enumerate(STAGES):
            for turn in range(BLOCKS):
                stride = 2 if stage and turn == 0 else 1
                layers.append(BasicBlock(into, width * times, stride))
                into = width * times
        self.trunk = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embed = nn.Sequential(nn.Linear(into, dim), nn.BatchNorm1d(dim, affine=False))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, F) pooled."""
        pooled: Tensor = self.pool(self.trunk(x)).flatten(1)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(self.features(x))
        return embedding
