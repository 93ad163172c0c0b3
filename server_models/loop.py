"""The frame of a training run: resume, step, log, save. The recipes say what a step is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer

from compat.errors import KinspaceError
from compat.terminal import STDERR
from server_models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server_models.config_section import Schedule
from server_models.run_folder import RunFolder

Rows = np.ndarray[tuple[int], np.dtype[np.int64]]  # places of images in a set
LOG_EVERY_STEPS = 10
WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class Run:
    """What a run trains and where it keeps it."""

    folder: RunFolder
    digest: str
    title: str
    schedule: Schedule
    seed: int
    modules: Mapping[str, nn.Module]
    optimizers: tuple[Optimizer, ...]  # their groups' "lr" are the peaks of the schedule

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimisers."""
        return [group for each in self.optimizers for group in each.param_groups]


def batch_rows(seed: int, step: int, batch: int, rows: int) -> Rows:
    """Which rows step ``step`` sees: (batch,). Epochs are shuffles; a function of its arguments."""
    epochs = range(step * batch // rows, ((step + 1) * batch - 1) // rows + 1)
    order = [np.random.default_rng((seed, epoch)).permutation(rows) for epoch in epochs]
    start = step * batch - epochs[0] * rows
    return np.concatenate(order)[start : start + batch]


def step_seed(seed: int, step: int) -> int:
    """All randomness of a step: dropout, augmentation."""
    return seed * 1_000_003 + step


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine, in (0, 1]."""
    warm = max(1, round(steps * WARM_UP_SHARE))
    if step < warm:
        return (step + 1) / warm
    return float(0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def train(run: Run, losses_at: Callable[[int], Mapping[str, Tensor]]) -> None:
    """Take every step that is not taken yet; ``losses_at(step)`` gives () terms to sum.

    Raises:
        KinspaceError: the loss is not finite. Remedy: a lower learning rate, or better data.
    """
    peaks = [group["lr"] for group in run.groups]
    first = _resume(run)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown_loss = TextColumn("loss {task.fields[loss]:.3f}")
    steps = run.schedule.steps
    with (
        denormals_flushed(),
        closing(run.folder.log_from(first)) as log,
        Progress(*columns, shown_loss, TimeRemainingColumn(), console=STDERR) as bar,
    ):
        shown = bar.add_task(run.title, total=steps, completed=first, loss=float("nan"))
        for step in range(first, steps):
            torch.manual_seed(step_seed(run.seed, step))  # dropout: a function of (seed, step)
            for group, peak in zip(run.groups, peaks, strict=True):
                group["lr"] = peak * rate_at(step, steps)
            terms = losses_at(step)
            loss = torch.stack(list(terms.values())).sum()  # ()
            if not torch.isfinite(loss):
                raise KinspaceError(
                    f"{run.title}: loss is {loss.item()} at step {step}; lower the learning rate"
                )
            for optimizer in run.optimizers:
                optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            for optimizer in run.optimizers:
                optimizer.step()
            if step % LOG_EVERY_STEPS == 0 or step + 1 == steps:
                values = {name: term.item() for name, term in terms.items()}
                log.write(step, {**values, "loss": loss.item(), "rate": rate_at(step, steps)})
                bar.update(shown, loss=loss.item())
            if (step + 1) % run.schedule.save_every_steps == 0 or step + 1 == steps:
                _save(run, step + 1)
            bar.update(shown, completed=step + 1)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small to matter count as 0: a step took thirty times as long where channels
    have died and left them in a momentum."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _save(run: Run, step: int) -> None:
    states = {name: module.state_dict() for name, module in run.modules.items()}
    kept = Checkpoint(run.digest, step, states, [each.state_dict() for each in run.optimizers])
    save_checkpoint(run.folder.checkpoint, kept)


def _resume(run: Run) -> int:
    """Load what was saved of this very run; return how many steps are done."""
    kept = load_checkpoint(run.folder.checkpoint)
    if kept is None or kept.run_digest != run.digest:
        return 0
    for name, module in run.modules.items():
        module.load_state_dict(kept.modules[name])
    for optimizer, state in zip(run.optimizers, kept.optimizers, strict=True):
        optimizer.load_state_dict(state)
    return kept.step
