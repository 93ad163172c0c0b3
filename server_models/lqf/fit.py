"""The optimum of a linearised network under a square loss with a pull to its first weights.

``sum ||y - f_lin(x)||^2 + ridge ||w - w0||^2`` (arXiv:2012.11140, section 3; its lambda is
2 ridge) has one optimum. It is found by conjugate gradients on the duals, preconditioned once by a
`Kernel`: what comes out is the optimum to a stated tolerance, not where a descent was stopped.
"""

from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor

from compat.errors import KinspaceError
from compat.terminal import STDERR
from server_models.lqf.kernel import Kernel
from server_models.lqf.tangent import Tangent, Weights

SCALE = 15.0  # alpha: what the one-hot of a class is multiplied by, so that margins are wide
TOLERANCE = 1e-4  # of what is left to explain, in the L2 norm
MAX_STEPS = 400


@dataclass(frozen=True)
class Fit:
    """An optimum, and how well it was found."""

    duals: Tensor  # (N, D)
    change: Weights  # w* - w0 = J^T duals
    steps: int
    left: float  # ||y - f_lin - ridge duals|| / ||y - f(w0)||, at most the tolerance


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(N,) int64 -> (N, C) with `SCALE` at the class."""
    return SCALE * torch.nn.functional.one_hot(labels, classes).float()


def fit(
    tangent: Tangent,
    targets: Tensor,
    kernel: Kernel,
    *,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    title: str = "",
) -> Fit:
    """Solve for ``targets`` (N, D), from ``start`` (N, D) duals or from zero.

    Images may be added or taken away between calls: give zero duals for the new ones, and leave
    out the rows of the others; the optimum is the same as from zero, it is only found sooner.

    Raises:
        KinspaceError: it was not found. Remedy: a stronger decay.
    """
    residuals = targets - tangent.outputs  # (N, D)
    goal = tolerance * float(residuals.norm())
    duals = torch.zeros_like(residuals) if start is None else start.clone()
    left = residuals - _through(tangent, kernel, duals) if start is not None else residuals.clone()
    direction, previous = torch.zeros_like(duals), 1.0
    with Progress(transient=True, console=STDERR, disable=not title) as bar:
        shown = bar.add_task(title, total=None)
        for step in range(MAX_STEPS):
            if float(left.norm()) <= goal:
                return Fit(duals, tangent.pull(duals), step, _share(left, residuals))
            eased = kernel.solve(left)
            slope = float((left * eased).sum())
            direction = eased + (slope / previous if step else 0.0) * direction
            through = _through(tangent, kernel, direction)
            length = slope / float((direction * through).sum())
            duals += length * direction
            left -= length * through
            previous = slope
            bar.update(shown, description=f"{title} {_share(left, residuals):.0e}", advance=1)
    raise KinspaceError(f"no optimum after {MAX_STEPS} steps: use a stronger decay")


def _through(tangent: Tangent, kernel: Kernel, duals: Tensor) -> Tensor:
    """(K + ridge I) duals by the network itself: (N, D)."""
    return tangent.push(tangent.pull(duals)) + kernel.ridge * duals


def _share(left: Tensor, residuals: Tensor) -> float:
    return float(left.norm() / residuals.norm().clamp(min=1e-30))
