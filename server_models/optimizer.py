"""What moves the weights of a query model: Muon its matrices, AdamW all else."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from server_models.config import Method, Schedule

COLOURS = 3


class ChannelMuon(Muon):
    """Muon for layers that mix channels, convolutions too: their weights as matrices.

    It turns the momentum of a matrix into the nearest orthogonal one before it steps, so that every
    direction of a layer learns alike. Steps are scaled to the size that AdamW's would have, so both
    share a learning rate (arXiv:2502.16982, equation 4).
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, rate: float, decay: float) -> None:
        """Raises ValueError where a convolution's channels do not come last in memory."""
        self.pairs = [(weight, nn.Parameter(_as_matrix(weight.detach()))) for weight in weights]
        if any(weight.data_ptr() != matrix.data_ptr() for weight, matrix in self.pairs):
            raise ValueError("a weight is no matrix in memory: set channels_last before")
        super().__init__(
            [matrix for _, matrix in self.pairs],
            lr=rate,
            weight_decay=decay,
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, closure: Any = None) -> Any:
        for weight, matrix in self.pairs:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        return super().step(closure)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight, _ in self.pairs:
            weight.grad = None
        super().zero_grad(set_to_none)


def optimizers(
    net: nn.Module, others: Iterable[nn.Parameter], schedule: Schedule, method: Method
) -> tuple[Optimizer, ...]:
    """What trains ``net``, by ``schedule``'s rate and decay.

    Args:
        net: its memory format must be set already.
        others: parameters that are no part of ``net``: AdamW moves them.
        method: "adamw" moves all of ``net`` by AdamW.
    """
    rate, decay = schedule.learning_rate, schedule.weight_decay
    matrices = list(mixing_weights(net)) if method == "muon" else []
    taken = {id(weight) for weight in matrices}
    rest = [*(p for p in net.parameters() if id(p) not in taken), *others]
    adamw = AdamW(rest, lr=rate, weight_decay=decay, fused=True)
    return (adamw, ChannelMuon(matrices, rate=rate, decay=decay)) if matrices else (adamw,)


def mixing_weights(net: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of linear layers and of convolutions over channels: not those of depthwise ones,
    which mix nothing, nor of the first, which sees colours."""
    for module in net.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight = module.get_parameter("weight")
        if weight.shape[1] > COLOURS:
            yield weight


def _as_matrix(weight: Tensor) -> Tensor:
    """(O, I) as it is, (O, I, K, K) -> (O, K * K * I): a view where channels come last."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)
