"""Evolution over the slices of a supernet: NSGA-II, reward up, cost down, under a limit of MACs.

Each trial is a line in a file, written when it is finished. The next trial is a function of the
lines before it, the seed and its number, so a search that was killed goes on to the same front.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from compat.errors import CorruptError
from compat.files import read_bounded

MAX_LINES_BYTES = 2**26
Progress = Callable[[int, int], None]  # trials done, trials in all


@dataclass(frozen=True)
class Fitness:
    """What one candidate is worth and what it costs."""

    reward: float  # higher is better
    cost: float  # MACs or ms
    excess_macs: int  # above the limit; 0 or less: allowed


@dataclass(frozen=True)
class Trial:
    """One candidate of the search, finished."""

    number: int
    decisions: dict[str, int]
    fitness: Fitness

    @property
    def is_allowed(self) -> bool:
        return self.fitness.excess_macs <= 0


def evolve(
    log: Path,
    choices: Mapping[str, tuple[int, ...]],
    evaluate: Callable[[dict[str, int]], Fitness],
    *,
    population: int,
    trials: int,
    seed: int,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Every trial up to number ``trials``, those of earlier calls read from ``log``.

    Crossover and mutation at random: 0.9 and, for each decision, 0.1 (arXiv:2105.06047).

    Raises:
        CorruptError: ``log`` is damaged. Remedy: remove it; the search begins anew.
    """
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in choices.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for each study: one a trial
    history = [_as_optuna(line, distributions) for line in _read(log)[:trials]]
    progress(len(history), trials)
    while (number := len(history)) < trials:
        study = optuna.create_study(  # a new one each time: an old one remembers parents of its own
            directions=["maximize", "minimize"],
            sampler=optuna.samplers.NSGAIISampler(
                population_size=population, mutation_prob=0.1, seed=seed * 1_000_003 + number
            ),
        )
        study.add_trials(history)
        trial = study.ask(distributions)
        fitness = evaluate({name: int(value) for name, value in trial.params.items()})
        trial.set_user_attr("excess_macs", fitness.excess_macs)
        trial.set_constraint("macs", fitness.excess_macs)
        done = study.tell(trial, [fitness.reward, fitness.cost])
        _append(log, done)
        history.append(done)
        progress(number + 1, trials)
    return tuple(_as_ours(number, trial) for number, trial in enumerate(history))


def front(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """The allowed trials that no other beats in reward and cost at once, cheapest first."""
    best: list[Trial] = []
    ordered = sorted(
        (trial for trial in trials if trial.is_allowed),
        key=lambda trial: (trial.fitness.cost, -trial.fitness.reward, trial.number),
    )
    for trial in ordered:
        if not best or trial.fitness.reward > best[-1].fitness.reward:
            best.append(trial)
    return tuple(best)


def _as_ours(number: int, trial: optuna.trial.FrozenTrial) -> Trial:
    reward, cost = trial.values
    decisions = {name: int(value) for name, value in trial.params.items()}
    return Trial(number, decisions, Fitness(reward, cost, trial.user_attrs["excess_macs"]))


def _as_optuna(
    line: dict[str, Any], distributions: dict[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        params=line["decisions"],
        distributions=distributions,
        values=[line["reward"], line["cost"]],
        user_attrs={"excess_macs": line["excess_macs"]},
        system_attrs=line["system"],
    )


def _append(log: Path, trial: optuna.trial.FrozenTrial) -> None:
    ours = _as_ours(trial.number, trial)
    line = {
        "decisions": ours.decisions,
        "reward": ours.fitness.reward,
        "cost": ours.fitness.cost,
        "excess_macs": ours.fitness.excess_macs,
        "system": trial.system_attrs,
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(log: Path) -> list[dict[str, Any]]:
    """Finished lines; one that was cut off by a power cut is dropped, and done again."""
    if not log.exists():
        return []
    text = read_bounded(log, MAX_LINES_BYTES).decode()
    whole, newline, _ = text.rpartition("\n")
    if len(whole + newline) != len(text):
        log.write_text(whole + newline)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except json.JSONDecodeError as error:
        raise CorruptError(f"{log} is damaged: remove it, the search begins anew") from error
