"""The reward table: what is drawn, what each lesson may see, and what agreement means."""

import numpy as np
import pytest

from benchmarks.rewards import (
    BCT,
    NETS,
    OURS,
    SHARE,
    VANILLA,
    Drawn,
    Measured,
    agreement,
    draw,
    kendall,
    lessons,
    reward_rows,
    spearman,
)
from server_models.architecture import SearchSpace
from server_models.config import FamilyConfig

SPACE = SearchSpace(sizes_px=(24, 32))
MAX_MACS = 1_000_000


@pytest.fixture(scope="module")
def drawn() -> tuple[Drawn, ...]:
    return draw(SPACE, 16, max_macs=MAX_MACS)


def test_networks_of_nearly_equal_cost_are_drawn_once(drawn: tuple[Drawn, ...]) -> None:
    assert len({each.net for each in drawn}) == len({each.name for each in drawn}) == NETS >= 12
    assert all(SHARE * MAX_MACS <= each.macs <= MAX_MACS for each in drawn)
    assert drawn == draw(SPACE, 16, max_macs=MAX_MACS)


def test_only_the_truth_is_taught_the_familys_losses(
    drawn: tuple[Drawn, ...], family: FamilyConfig
) -> None:
    like = family.members[0]
    given = lessons(drawn[0], like)
    terms = {how: [term.term for term in each.losses] for how, each in given.items()}
    assert terms[VANILLA] == ["classification"]
    assert terms[BCT] == ["classification", "influence"]
    assert given[OURS].losses == like.losses
    assert {each.schedule for each in given.values()} == {like.schedule}
    assert {each.backbone for each in given.values()} == {drawn[0].net}
    assert {each.start for each in given.values()} == {"nothing"}
    assert {each.preprocess.size_px for each in given.values()} == {drawn[0].net.size_px}


@pytest.mark.parametrize("rank", [kendall, spearman])
def test_agreement_of_equal_opposite_and_random_orders(rank: object) -> None:
    truth = np.random.default_rng(0).normal(size=12)
    assert callable(rank)
    assert agreement(np.exp(truth), truth, rank) == pytest.approx((1, 1, 1))
    assert agreement(-truth, truth, rank) == pytest.approx((-1, -1, -1))
    value, low, high = agreement(np.random.default_rng(1).normal(size=12), truth, rank)
    assert low < value < high
    assert low < 0 < high


@pytest.mark.parametrize("rank", [kendall, spearman])
def test_a_measure_that_says_the_same_of_all_predicts_nothing(rank: object) -> None:
    assert callable(rank)
    truth = np.arange(12.0)
    assert agreement(np.ones(12), truth, rank) == (0, 0, 0)


def test_kendall_counts_pairs() -> None:
    """One of the six pairs is in the wrong order: (5 - 1) / 6."""
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)


def test_a_row_says_what_its_measure_would_have_taken(drawn: tuple[Drawn, ...]) -> None:
    measured = [
        Measured(each, {"right": place / 10, "wrong": -place / 10}, truth=place / 100)
        for place, each in enumerate(drawn)
    ]
    right, wrong = reward_rows(measured)
    assert (right["Kendall"], wrong["Kendall"]) == pytest.approx((1, -1))
    assert right["cross mAP of its choice"] == (NETS - 1) / 100
    assert wrong["cross mAP of its choice"] == 0
