"""The evolution finds what is good, stays under its limit, and goes on as if never stopped."""

from pathlib import Path

import numpy as np
import pytest

from compat.errors import CorruptError
from server_models.evolution import Fitness, Trial, evolve, front

CHOICES = {f"gene{place}": (0, 1, 2, 3) for place in range(8)}
LIMIT = 14


class KilledError(Exception):
    """The power went."""


def evaluate(decisions: dict[str, int]) -> Fitness:
    """Reward for genes at 3, cost for their sum: a front from 0 to the limit."""
    cost = sum(decisions.values())
    reward = sum(value == 3 for value in decisions.values()) - 0.01 * cost
    return Fitness(reward, float(cost), cost - LIMIT)


def run(log: Path, trials: int = 120, die_at: int | None = None) -> tuple[Trial, ...]:
    seen = 0

    def watched(decisions: dict[str, int]) -> Fitness:
        nonlocal seen
        seen += 1
        if seen == die_at:
            raise KilledError
        return evaluate(decisions)

    return evolve(
        log,
        CHOICES,
        watched,
        population=10,
        trials=trials,
        seed=1,
        progress=lambda done, total: None,
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, ...]:
    return run(tmp_path_factory.mktemp("unbroken") / "trials.jsonl")


def test_it_beats_random_search_at_the_same_number_of_trials(
    unbroken: tuple[Trial, ...],
) -> None:
    rng = np.random.default_rng(0)
    drawn = [
        evaluate({name: int(rng.choice(values)) for name, values in CHOICES.items()})
        for _ in range(120)
    ]
    lucky = max(fitness.reward for fitness in drawn if fitness.excess_macs <= 0)
    assert front(unbroken)[-1].fitness.reward > lucky


@pytest.mark.parametrize("die_at", [1, 7, 33, 64])
def test_killed_and_resumed_it_finds_the_same(
    unbroken: tuple[Trial, ...], tmp_path: Path, die_at: int
) -> None:
    log = tmp_path / "trials.jsonl"
    with pytest.raises(KilledError):
        run(log, die_at=die_at)
    with log.open("a") as file:
        file.write('{"decisions": {"ge')  # and the last line was cut off
    assert run(log) == unbroken


def test_a_finished_search_evaluates_nothing(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    before = run(log, trials=20)
    written = log.read_bytes()
    assert run(log, trials=20, die_at=1) == before
    assert log.read_bytes() == written


def test_the_front_holds_what_no_other_beats(unbroken: tuple[Trial, ...]) -> None:
    best = front(unbroken)
    allowed = [trial for trial in unbroken if trial.is_allowed]
    assert len(allowed) < len(unbroken)  # the limit bites
    for trial in best:
        assert trial.fitness.cost <= LIMIT
        assert not any(
            other.fitness.reward > trial.fitness.reward and other.fitness.cost <= trial.fitness.cost
            for other in allowed
        )
    for other in allowed:
        assert any(
            trial.fitness.reward >= other.fitness.reward
            and trial.fitness.cost <= other.fitness.cost
            for trial in best
        )


def test_a_damaged_log_is_named_and_kept(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    run(log, trials=3)
    log.write_text("not json\n" + log.read_text())
    before = log.read_bytes()
    with pytest.raises(CorruptError, match=r"trials\.jsonl is damaged: remove it"):
        run(log)
    assert log.read_bytes() == before
