"""What images have in common to a linearised network, and what leaving one out would change.

The optimum of ``sum ||y - f_lin||^2 + ridge ||w - w0||^2`` is ``w0 + J^T duals`` with
``(K + ridge I) duals = y - f(w0)`` and K = J J^T. With B the inverse of that matrix, leaving out
the rows S gives ``duals - B[:, S] B[S, S]^-1 duals[S]``: the dual form of
``w_-i = w* - A^-1 g_i r_i / (1 - h_ii)`` with A = J^T J + ridge I, h_ii = g_i^T A^-1 g_i
(arXiv:2012.11140, section 4), for all outputs of an image at once.

`exact_kernel` is K itself, (N D, N D). Where that is too large, `averaged_kernel` is the mean of
its D diagonal blocks, (N, N): K is near to it times the unit matrix of the outputs
(arXiv:2206.12543), so it is a good preconditioner and its leave-one-out a good estimate.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from server_models.lqf.tangent import Tangent

EXACT_UP_TO = 1600  # rows N D
PROBES = 4
SKETCH = 2**18  # gradients of more weights than this are hashed into as many numbers
CHUNK = 16  # images whose gradients lie in memory at once, beside the kernel's


@dataclass(frozen=True)
class Kernel:
    """K + ridge I of N images with D outputs, ready to be solved."""

    matrix: Tensor  # (N D, N D) exact, or (N, N) the same for every output
    outputs: int  # D
    images: int  # N
    ridge: float

    @property
    def is_exact(self) -> bool:
        return len(self.matrix) == self.images * self.outputs

    @cached_property
    def inverse(self) -> Tensor:
        """B."""
        whole = self.matrix.double()
        unit = torch.eye(len(whole), dtype=whole.dtype)
        return torch.cholesky_inverse(torch.linalg.cholesky(whole + self.ridge * unit))

    def solve(self, residuals: Tensor) -> Tensor:
        """(N, D) -> duals (N, D)."""
        return self._shaped(self.inverse @ self._rows(residuals.double())).to(residuals.dtype)

    def left_out(self, duals: Tensor, images: list[int]) -> Tensor:
        """Duals of the optimum without ``images``: (N, D) -> (N, D), zero in their rows."""
        rows, held = self._rows_of(images), self._rows(duals.double())
        pulled = torch.linalg.solve(self.inverse[rows][:, rows], held[rows])
        without = held - self.inverse[:, rows] @ pulled
        without[rows] = 0  # exactly
        return self._shaped(without).to(duals.dtype)

    def left_out_residuals(self, duals: Tensor) -> Tensor:
        """y_i - f(x_i) by the optimum that never saw image i: (N, D)."""
        held = self._rows(duals.double())
        found = [
            torch.linalg.solve(self.inverse[rows][:, rows], held[rows]).reshape(-1)
            for rows in map(self._rows_of, ([i] for i in range(self.images)))
        ]
        return torch.stack(found).to(duals.dtype)

    def shifts(self, duals: Tensor) -> Tensor:
        """||w* - w_-i||, how far leaving out each image moves the weights: (N,)."""
        found = []
        for image in range(self.images):
            moved = self._rows((duals - self.left_out(duals, [image])).double())
            found.append((moved * (self.matrix.double() @ moved)).sum().clamp(min=0).sqrt())
        return torch.stack(found)

    def of(self, images: list[int]) -> "Kernel":
        """The same among some of the images."""
        rows = self._rows_of(images)
        return Kernel(self.matrix[rows][:, rows], self.outputs, len(images), self.ridge)

    def _rows_of(self, images: list[int]) -> Tensor:
        chosen = torch.tensor(images)
        if not self.is_exact:
            return chosen
        return (chosen[:, None] * self.outputs + torch.arange(self.outputs)).reshape(-1)

    def _rows(self, duals: Tensor) -> Tensor:
        return duals.reshape(-1, 1) if self.is_exact else duals

    def _shaped(self, rows: Tensor) -> Tensor:
        return rows.reshape(self.images, self.outputs)


def kernel_of(tangent: Tangent, *, decay: float, seed: int = 0) -> Kernel:
    """Exact where that is small; the ridge is ``decay`` times the mean of the diagonal."""
    images, outputs = tangent.outputs.shape
    if images * outputs <= EXACT_UP_TO:
        matrix = exact_kernel(tangent)
    else:
        matrix = averaged_kernel(tangent, seed=seed)
    return Kernel(matrix, outputs, images, decay * float(matrix.diagonal().mean()))


def exact_kernel(tangent: Tangent) -> Tensor:
    """J J^T: (N D, N D)."""
    rows = torch.cat(
        [tangent.jacobian(chunk) for chunk in torch.split(tangent.images, CHUNK)]
    )  # (N D, P)
    return rows @ rows.T


def averaged_kernel(tangent: Tangent, *, seed: int) -> Tensor:
    """The mean of K's D diagonal blocks, by random signs over the outputs: (N, N)."""
    images, outputs = tangent.outputs.shape
    drawn = torch.Generator().manual_seed(seed)
    total = torch.zeros(images, images, dtype=tangent.outputs.dtype)
    for _ in range(PROBES):
        signs = torch.randint(0, 2, (outputs,), generator=drawn) * 2 - 1
        weighting = signs.to(tangent.outputs.dtype) / outputs**0.5
        hashing = torch.Generator().manual_seed(seed)
        chunks = [
            _sketched(tangent.gradients(chunk, weighting), hashing.manual_seed(seed))
            for chunk in torch.split(tangent.images, CHUNK)
        ]
        rows = torch.cat(chunks)  # (N, P) or (N, SKETCH)
        total += rows @ rows.T / PROBES
    return total


def _sketched(rows: Tensor, hashing: torch.Generator) -> Tensor:
    """(n, P) -> (n, min(P, SKETCH)) with nearly the same inner products (count sketch)."""
    width = rows.shape[1]
    if width <= SKETCH:
        return rows
    places = torch.randint(0, SKETCH, (width,), generator=hashing)
    signs = torch.randint(0, 2, (width,), generator=hashing) * 2 - 1
    return torch.zeros(len(rows), SKETCH, dtype=rows.dtype).index_add_(1, places, rows * signs)
