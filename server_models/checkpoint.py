"""Checkpoints: complete, atomic, loaded without running anybody's code.

Data order, augmentation and dropout are functions of (seed, step), so weights, optimiser and step
are all the state there is: nothing of a random generator needs saving.
"""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from compat.errors import CorruptError
from compat.files import read_bounded, write_atomic

MAX_CHECKPOINT_BYTES = 2**32
MAX_WORDS = 300  # of what torch says, which would name every tensor


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands after ``step`` steps of the run that ``run_digest`` names."""

    run_digest: str  # config, data, gallery model: that of another run is not resumed
    step: int
    modules: dict[str, dict[str, Tensor]]
    optimizers: list[dict[str, Any]]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at ``path``, or None when there is none.

    Raises:
        CorruptError: the file is no checkpoint. Remedy: remove it; the run begins again.
    """
    if not path.exists():
        return None
    try:
        blob = io.BytesIO(read_bounded(path, MAX_CHECKPOINT_BYTES))
        kept = torch.load(blob, map_location="cpu", weights_only=True)
        if "optimizer" in kept:  # as written while a run had but one
            kept["optimizers"] = [kept.pop("optimizer")]
        return Checkpoint(**kept)
    except (RuntimeError, pickle.UnpicklingError, TypeError, EOFError, ValueError) as error:
        raise CorruptError(
            f"{path} is no checkpoint ({error}): remove it to begin again"
        ) from error


def save_weights(path: Path, module: nn.Module, notes: dict[str, str]) -> None:
    """Weights alone, as safetensors; ``notes`` travel in its header."""
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    write_atomic(path, safetensors.torch.save(state, notes))


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `save_weights` wrote. Raises CorruptError; UsageError when there is no such file."""
    try:
        return safetensors.torch.load(read_bounded(path, MAX_CHECKPOINT_BYTES))
    except safetensors.SafetensorError as error:
        raise CorruptError(f"{path} is not a safetensors file: {error}") from error


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill ``module``; every tensor must fit. Raises CorruptError."""
    try:
        module.load_state_dict(read_weights(path))
    except RuntimeError as error:
        said = str(error)[:MAX_WORDS]
        raise CorruptError(f"{path} does not hold the weights of this network: {said}") from error
