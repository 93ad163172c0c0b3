"""The graph that every exporter is given: one input `image`, one output `embedding`."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from compat.errors import UsageError


class Graph(nn.Module):
    """image (N, S, S, 3) -> embedding (N, D), raw: the L2 norm stays outside (docs/adr/0005)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        # contiguous(): without it a pooled tensor keeps its channels-last strides and the ONNX
        # graph gets a dozen nodes of index arithmetic around the pooling
        return {"embedding": self.model(image.permute(0, 3, 1, 2).contiguous())}


def checked_graph(model: nn.Module, size_px: int) -> Graph:
    """A copy of ``model`` on the processor, in eval mode, taking channels last; proven to run.

    Raises:
        UsageError: a weight is not finite or not float32, or the model does not turn
            (N, 3, S, S) into (N, D) float32. The message names the weight or the shape.
    """
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        if not weight.is_floating_point():
            continue
        if weight.dtype != torch.float32:
            raise UsageError(f"weight {name} is {weight.dtype}: export takes float32, use .float()")
        if not torch.isfinite(weight).all():
            raise UsageError(
                f"weight {name} holds NaN or infinity: the training diverged, export an earlier "
                "checkpoint"
            )
    graph = Graph(copy.deepcopy(model).cpu()).eval()
    try:
        with torch.no_grad():
            found = graph(torch.zeros(2, size_px, size_px, 3))["embedding"]
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"the model does not take (N, 3, {size_px}, {size_px}): {error}"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"the model must give (N, D), for 2 images it gave {shape}")
    if found.dtype != torch.float32:
        raise UsageError(f"the model must give float32, it gave {found.dtype}")
    return graph
