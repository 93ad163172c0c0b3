"""bfloat16 where it pays: dense convolutions on a processor that multiplies in it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def fast(net: nn.Module) -> AbstractContextManager[object]:
    """Autocast for a forward pass of ``net``; losses stay outside of it, in float32.

    Networks of depthwise convolutions lose by it (`make bench-train`), so they are left alone, and
    so is everything where the processor would only pretend.
    """
    if is_dense(net) and has_bfloat16():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def is_dense(net: nn.Module) -> bool:
    """No convolution works on each channel alone."""
    return all(m.groups == 1 for m in net.modules() if isinstance(m, nn.Conv2d))


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
