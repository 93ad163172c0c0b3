"""What moves the weights of a query model: Muon its matrices, AdamW all else."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from server_models.config_section import Schedule
from server_models.member_config import Method

COLOURS = 3
MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at 0: small singular values rise in few turns
TURNS = 5
UPDATE_RMS = 0.2  # of AdamW's steps


class Muon(Optimizer):
    """Turns the momentum of a matrix into the nearest orthogonal one before it steps.

    So every direction of a layer learns alike. Steps are scaled to the size that AdamW's would
    have, so both share a learning rate (Jordan et al. 2024; arXiv:2502.16982, equation 4). A
    convolution's weight is the matrix (O, I * K * K).

    torch.optim.Muon takes no convolutions and turns in bfloat16, which takes longer than
    float32 for matrices as small as a phone's network has.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, rate: float, decay: float) -> None:
        super().__init__(weights, {"lr": rate, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients that there are."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group["lr"], group["weight_decay"])

    def _move(self, weight: nn.Parameter, rate: float, decay: float) -> None:
        assert weight.grad is not None
        kept = self.state[weight]
        if not kept:
            kept["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = kept["momentum"]
        momentum.lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's: (O, I * K * K)
        scale = UPDATE_RMS * max(ahead.shape) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.add_(nearest_orthogonal(ahead).view(weight.shape), alpha=-rate * scale)


def nearest_orthogonal(matrix: Tensor) -> Tensor:
    """(O, I) -> (O, I) with its singular vectors and all singular values near one.

    Newton and Schulz's iteration leaves them between 0.7 and 1.2, which serves as well as 1.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(TURNS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def optimizers(
    net: nn.Module, others: Iterable[nn.Parameter], schedule: Schedule, method: Method
) -> tuple[Optimizer, ...]:
    """What trains ``net``, by ``schedule``'s rate and decay.

    Args:
        others: parameters that are no part of ``net``: AdamW moves them.
        method: "adamw" moves all of ``net`` by AdamW.
    """
    rate, decay = schedule.learning_rate, schedule.weight_decay
    matrices = list(mixing_weights(net)) if method == "muon" else []
    taken = {id(weight) for weight in matrices}
    rest = [*(p for p in net.parameters() if id(p) not in taken), *others]
    adamw = AdamW(rest, lr=rate, weight_decay=decay, fused=True)
    return (adamw, Muon(matrices, rate=rate, decay=decay)) if matrices else (adamw,)


def mixing_weights(net: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of linear layers and of convolutions over channels: not those of depthwise ones,
    which mix nothing, nor of the first, which sees colours."""
    for module in net.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight = module.get_parameter("weight")
        if weight.shape[1] > COLOURS:
            yield weight
