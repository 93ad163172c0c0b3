"""What a network costs, counted and not timed."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, size_px: int) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image of (3, S, S).

    Counted in eval mode while the operators run; batch norms, activations and sums are not in it,
    as in the tables of the literature. The model is left as it was.
    """
    modes = {module: module.training for module in model.modules()}
    example = next(model.parameters())
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(example.new_zeros(1, 3, size_px, size_px))
    finally:
        for module, training in modes.items():
            module.training = training
    return int(counter.get_total_flops()) // 2


def count_params(model: nn.Module) -> int:
    """Numbers that training sets; shared ones once, running statistics not."""
    return sum(parameter.numel() for parameter in model.parameters())
