"""A member adapted to a tenant's images: the problem they pose, its optimum, the record of both.

Each image a phone could have taken is asked to land half-way between what the gallery model says of
it and its class among the gallery's vectors, as in training; the pull to the weights that the
member was released with keeps the rest of the space where it is. Only the embedding layer moves:
of that layer the tangent is the network, so what ships is the optimum (docs/adr/0014). The record
holds a dual vector for each image, so images are added or forgotten by solving on, to the same
optimum as from nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from compat.arrays import read_array, write_array
from compat.errors import CorruptError
from compat.files import read_bounded, write_atomic
from compat.wire import canonical_json
from server_models.lqf.fit import TOLERANCE, Fit, fit
from server_models.lqf.kernel import Kernel, kernel_of
from server_models.lqf.tangent import Tangent, minus, move, norm
from server_models.run_folder import RunFolder

PART = "embed."  # every backbone's last layer
DECAY = 1.0  # the pull to the released weights, as a share of what an image says on average
MAX_RECORD_BYTES = 2**26


class Example(BaseModel):
    """An image that the member was adapted to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str  # relative to the tenant's folder
    label: str
    digest: str  # of its bytes


class Fitted(BaseModel):
    """What the adaptation did on its own images: mean cosines, in [-1, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    before_cosine: float  # of the member's embeddings to where they should land
    after_cosine: float


class Adaptation(BaseModel):
    """How an adapted member came to be; beside its weights, with one row of duals an example."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    member: str  # that it was adapted from
    weights_digest: str  # of that member
    examples: tuple[Example, ...]
    forgotten: tuple[Example, ...]  # never used again, whatever lies in the tenant's folder
    steps: int  # of conjugate gradients
    fitted: Fitted
    unlearning_ratio: float | None  # distance to retraining without the forgotten; 1 = not at all


@dataclass(frozen=True)
class Problem:
    """``net`` and where its embeddings of ``images`` (N, 3, S, S) should point: (N, D), L2 = 1."""

    net: nn.Module
    images: Tensor
    aims: Tensor

    @cached_property
    def tangent(self) -> Tangent:
        return Tangent(self.net, self.images, PART)

    @cached_property
    def targets(self) -> Tensor:
        """As long as the member's own embeddings are on average, which a cosine does not see."""
        length: Tensor = self.tangent.outputs.norm(dim=1).mean()
        return self.aims * length

    @cached_property
    def kernel(self) -> Kernel:
        return kernel_of(self.tangent, decay=DECAY)

    def solve(self, start: Tensor | None = None, *, title: str = "") -> Fit:
        return fit(self.tangent, self.targets, self.kernel, start=start, title=title)

    def move(self, found: Fit) -> Fitted:
        """Set the network's weights to the optimum, in place; say how it fits."""
        first = self.tangent.outputs
        move(self.net, found.change)
        after = Tangent(self.net, self.images, PART).outputs
        return Fitted(
            before_cosine=_cosine(first, self.aims),
            after_cosine=_cosine(after, self.aims),
        )

    def without(self, rows: list[int], found: Fit) -> Fit:
        """The optimum of the same problem less some images, from leave-one-out's guess."""
        kept = [row for row in range(len(self.images)) if row not in set(rows)]
        guess = self.kernel.left_out(found.duals, rows)[kept]
        fewer = Tangent(self.net, self.images[kept], PART)
        return fit(fewer, self.targets[kept], self.kernel.of(kept), start=guess)

    def most_influential(self, found: Fit, count: int) -> list[tuple[int, float]]:
        """(row, ||w* - w_-i|| / ||w* - w0||), largest first.

        Ranked by the kernel's leave-one-out, then each of them really left out and solved again.
        """
        ranked = torch.argsort(self.kernel.shifts(found.duals), descending=True).tolist()[:count]
        whole = norm(found.change)
        shifts = [
            (row, norm(minus(found.change, self.without([row], found).change)) / whole)
            for row in ranked
        ]
        return sorted(shifts, key=lambda shift: -shift[1])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a, b).mean())


def unlearning_ratio(before: Fit, unlearned: Fit, retrained: Fit) -> float:
    """How far unlearning is from retraining, as a share of how far the model was before it.

    0 = as if never seen; 1 = not unlearned. A model that the images did not move is at 0.
    """
    apart = norm(minus(before.change, retrained.change))
    if apart <= TOLERANCE * norm(retrained.change):
        return 0.0
    return norm(minus(unlearned.change, retrained.change)) / apart


def write_adaptation(folder: RunFolder, adaptation: Adaptation, duals: Tensor) -> None:
    """Each atomically; what was cut off between the two is told by its number of rows."""
    write_array(folder.path / "duals.npy", duals.numpy())
    write_atomic(record_of(folder), canonical_json(adaptation.model_dump(mode="json")))


def read_adaptation(folder: RunFolder) -> tuple[Adaptation, Tensor] | None:
    """The record and its duals (N, D); None where no adapted member lies.

    Raises:
        CorruptError: it is damaged. Remedy: remove the folder and adapt again.
    """
    file = record_of(folder)
    if not file.exists():
        return None
    try:
        record = Adaptation.model_validate_json(read_bounded(file, MAX_RECORD_BYTES))
    except ValidationError as error:
        raise CorruptError(f"{file} is damaged: remove {folder.path}, then adapt again") from error
    duals = torch.from_numpy(read_array(folder.path / "duals.npy"))
    if len(duals) != len(record.examples):
        raise CorruptError(f"{file} is not of its duals: remove {folder.path}, then adapt again")
    return record, duals


def record_of(folder: RunFolder) -> Path:
    return folder.path / "adaptation.json"
