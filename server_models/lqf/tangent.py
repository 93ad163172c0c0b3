"""A network linearised at its weights: outputs that are an affine function of the weights' change.

``f_lin(x) = f(x; w0) + J(x; w0) (w - w0)`` (arXiv:2012.11140, eq. 1). J is never stored: `push` is
its product with a change of weights, `pull` its transposed product with a number for each output.
Batch norm keeps the statistics that it was trained with.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

with warnings.catch_warnings():  # what torch itself loads at the first jvp is deprecated in torch
    warnings.simplefilter("ignore")
    jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))

BATCH = 64
Weights = dict[str, Tensor]  # by parameter name, shaped as the parameters


@dataclass(frozen=True)
class Tangent:
    """``net`` at its present weights, over ``images`` (N, 3, S, S); neither is changed.

    Only the weights whose names begin with ``part`` may change: of the last, linear layer alone the
    tangent is the network itself.
    """

    net: nn.Module
    images: Tensor
    part: str = ""

    def __post_init__(self) -> None:
        self.net.eval()

    @cached_property
    def weights(self) -> Weights:
        """w0."""
        return {
            name: value.detach().clone()
            for name, value in self.net.named_parameters()
            if name.startswith(self.part)
        }

    @cached_property
    def outputs(self) -> Tensor:
        """f(x; w0): (N, D)."""
        with torch.no_grad():
            return torch.cat([self._at(self.weights, x) for x in self._batches])

    def push(self, change: Weights) -> Tensor:
        """J change: what it adds to each output, (N, D)."""
        with torch.no_grad():
            moved = [
                jvp(partial(self._at, images=x), (self.weights,), (change,))[1]
                for x in self._batches
            ]
        return torch.cat(moved)

    def pull(self, duals: Tensor) -> Weights:
        """J^T duals, (N, D) -> a change of weights."""
        total = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        for x, of_batch in zip(self._batches, torch.split(duals, BATCH), strict=True):
            transposed = vjp(partial(self._at, images=x), self.weights)[1]
            for name, part in transposed(of_batch)[0].items():
                total[name] = total[name] + part.detach()
        return total

    def predictions(self, change: Weights) -> Tensor:
        """f_lin at w0 + change: (N, D)."""
        return self.outputs + self.push(change)

    def gradients(self, images: Tensor, weighting: Tensor) -> Tensor:
        """Of ``weighting . f(x)`` for each image alone: (n, 3, S, S), (D,) -> (n, P)."""

        def one(weights: Weights, image: Tensor) -> Tensor:
            return (self._at(weights, image[None])[0] * weighting).sum()

        return _flat(vmap(grad(one), (None, 0))(self.weights, images), len(images))

    def jacobian(self, images: Tensor) -> Tensor:
        """Every output of every image: (n, 3, S, S) -> (n D, P), the outputs of an image adjoin."""

        def one(weights: Weights, image: Tensor) -> Tensor:
            return self._at(weights, image[None])[0]

        rows = len(images) * self.outputs.shape[1]
        return _flat(vmap(jacrev(one), (None, 0))(self.weights, images), rows)

    @property
    def _batches(self) -> tuple[Tensor, ...]:
        # 3 to 5 times faster in this order of memory
        return torch.split(self.images.contiguous(memory_format=torch.channels_last), BATCH)

    def _at(self, weights: Weights, images: Tensor) -> Tensor:
        whole = {**weights, **dict(self.net.named_buffers())}
        found: Tensor = functional_call(self.net, whole, (images,))
        return found


def _flat(weights: Weights, rows: int) -> Tensor:
    return torch.cat([part.detach().reshape(rows, -1) for part in weights.values()], dim=1)


def norm(change: Weights) -> float:
    """L2 over all weights."""
    return float(torch.stack([part.square().sum() for part in change.values()]).sum().sqrt())


def minus(a: Weights, b: Weights) -> Weights:
    return {name: a[name] - b[name] for name in a}


def move(net: nn.Module, change: Weights) -> None:
    """Set the network's weights to w0 + change, in place."""
    with torch.no_grad():
        weights = dict(net.named_parameters())
        for name, part in change.items():
            weights[name].add_(part)
