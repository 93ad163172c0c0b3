"""A run's folder: the resolved config with digests, a metrics log, weights. One folder a model."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from compat.files import digest_of, read_bounded, write_atomic
from compat.wire import canonical_json
from server_models.precision import has_bfloat16

MAX_LOG_BYTES = 2**30
_PACKAGES = ("compat", "server_models")


def code_digest() -> str:
    """SHA-256 over the sources that training runs, by name and content."""
    root = Path(__file__).parent.parent
    files = sorted(file for package in _PACKAGES for file in (root / package).rglob("*.py"))
    named = [f"{file.relative_to(root)} {digest_of(file.read_bytes())}" for file in files]
    return digest_of("\n".join(named).encode())


@dataclass(frozen=True)
class RunFolder:
    """Files of one training run."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def classes(self) -> Path:
        """A cloud model's: the class of each row of its head."""
        return self.path / "classes.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def describe(self, config: Mapping[str, object], *, data_digest: str) -> str:
        """Write run.json and return the digest of all that decides the result."""
        decides = {"config": config, "data_digest": data_digest, "torch": torch.__version__}
        also = {
            "code_digest": code_digest(),
            "python": platform.python_version(),
            "bfloat16": has_bfloat16(),  # dense networks learn in it where the processor can
        }
        write_atomic(self.path / "run.json", canonical_json({**decides, **also}))
        return digest_of(canonical_json(decides))

    def log_from(self, step: int) -> "MetricsLog":
        """Go on logging at ``step``: lines at or after it are of a life that was lost."""
        kept = []
        if self.metrics.exists():
            lines = read_bounded(self.metrics, MAX_LOG_BYTES).decode().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] < step]
        write_atomic(self.metrics, "".join(kept).encode())
        board = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
        return MetricsLog(self.metrics, board)


@dataclass(frozen=True)
class MetricsLog:
    """JSON lines for programs, TensorBoard for eyes."""

    path: Path
    board: SummaryWriter

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.board.close()
