"""The frontier: who enters, whom a searched network is compared with, how time is taken."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluate import HeldOut
from benchmarks.frontier import (
    HAND_MADE,
    SEARCHED,
    Artifact,
    Entrant,
    above_the_best,
    rows_of,
    searched,
)
from benchmarks.frontier_plot import frontier_plot
from benchmarks.latency_ratio import Timed, time_together
from compat.preprocess import Floats
from server_models.architecture import Architecture, Layer, SearchSpace
from server_models.config import FamilyConfig
from server_models.edge_net import EdgeNet
from server_models.evolution import Fitness, Trial
from server_models.family import Family

TIMED = Timed(ms=1.0, ratio=1.0, low=1.0, high=1.0)


@pytest.fixture
def held_out(family: FamilyConfig, tmp_path: Path) -> HeldOut:
    return HeldOut(Family(family, tmp_path))


def artifact(held_out: HeldOut, name: str, origin: str, channels: int, right: float) -> Artifact:
    """A file that is right on the first share of the queries; more channels, more MACs."""
    net = Architecture(stem=4, layers=(Layer(expand=2, channels=channels),), features=8, size_px=16)
    entrant = Entrant(name, origin, 16, partial(EdgeNet, net, 4), {})
    queries = len(held_out.queries)
    values = (np.arange(queries) < right * queries).astype(np.float64)
    return Artifact(entrant, "fp32", 100 * channels, values, values, TIMED)


def test_the_opponent_is_the_best_hand_made_one_that_costs_no_more(held_out: HeldOut) -> None:
    ours = artifact(held_out, "ours", SEARCHED, 8, 0.75)
    weak = artifact(held_out, "weak", HAND_MADE, 4, 0.25)
    strong = artifact(held_out, "strong", HAND_MADE, 8, 0.5)
    dear = artifact(held_out, "dear", HAND_MADE, 16, 1.0)
    found = above_the_best(held_out, ours, [weak, ours, dear, strong])
    assert found is not None
    name, difference = found
    assert name == "strong"
    assert difference.value == pytest.approx(0.25)
    assert above_the_best(held_out, weak, [weak, ours, strong]) is None
    assert above_the_best(held_out, ours, [ours, dear]) is None


def test_each_limit_gets_the_candidate_of_the_highest_reward() -> None:
    space, rng = SearchSpace(), np.random.default_rng(0)
    trials = [
        Trial(number, space.draw(rng), Fitness(reward, cost, excess))
        for number, (reward, cost, excess) in enumerate(
            [(0.9, 3e6, 570_000), (0.5, 2.2e6, -1), (0.3, 1.6e6, -1), (0.1, 1.1e6, -1)]
        )
    ]
    found = searched(space, trials, 16, 2_430_000)
    sizes = [space.build(trial.decisions).size_px for trial in trials[1:]]
    assert [each.size_px for each in found] == sizes
    assert [each.what for each in found] == [
        {"backbone": space.build(trial.decisions).model_dump(mode="json")} for trial in trials[1:]
    ]
    assert len({each.name for each in found}) == 3
    assert (
        len(searched(space, trials[:2] + trials[3:], 16, 2_430_000)) == 2
    )  # one is best under two limits


class Sleeper:
    """A runtime that takes as long as it is told."""

    size_px, dim, version, provider = 4, 2, "1", "sleep"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, tensors: Floats) -> Floats:
        time.sleep(self.seconds)
        return np.zeros((len(tensors), 2), dtype=np.float32)


def test_times_are_ratios_to_one_of_the_same_run() -> None:
    found = time_together({"fast": Sleeper(2e-4), "slow": Sleeper(1e-3)}, "fast")
    assert found["fast"].ratio == found["fast"].low == found["fast"].high == 1.0
    assert 1.5 < found["slow"].low <= found["slow"].ratio <= found["slow"].high
    assert found["slow"].ms >= 1.0


def test_the_picture_is_of_the_rows(held_out: HeldOut) -> None:
    rows = rows_of(
        held_out,
        [
            artifact(held_out, "ours", SEARCHED, 8, 0.75),
            artifact(held_out, "theirs", HAND_MADE, 4, 0.5),
        ],
    )
    drawn = frontier_plot(rows, paragon=0.9)
    assert drawn == frontier_plot(rows, paragon=0.9)
    assert drawn != frontier_plot(rows[:1], paragon=0.9)
