"""The gap table: who answers as the cloud does has no gap, who knows nothing has all of it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluate import HeldOut, Sides
from benchmarks.gap import Queried, plot, rows_of
from compat.preprocess import Floats
from server_models.config import FamilyConfig
from server_models.family import Family


def one_hot(labels: list[str]) -> Floats:
    """(N, C): each image on the axis of its class."""
    names = sorted(set(labels))
    return np.eye(len(names), dtype=np.float32)[[names.index(each) for each in labels]]


@pytest.fixture
def held_out(family: FamilyConfig, tmp_path: Path) -> HeldOut:
    """Whose cloud model finds everything."""
    held_out = HeldOut(Family(family, tmp_path))
    gallery = [image.label for image in held_out.gallery]
    held_out.__dict__["cloud"] = Sides(one_hot(held_out.classes), one_hot(gallery))
    return held_out


def test_the_gap_is_taken_from_the_paragon_and_the_cost_from_the_cloud(held_out: HeldOut) -> None:
    right = held_out.cloud.queries
    equal, blind = rows_of(
        held_out,
        800,
        [Queried("equal", 32, 10, right), Queried("blind", 32, 800, -right)],
    )
    assert equal["above the paragon"] == 0
    assert equal["cheaper"] == 80
    assert float(str(blind["cross mAP"])) < float(str(equal["cross mAP"])) == 1
    assert blind["cheaper"] == 1


def test_the_picture_shows_every_member_and_is_the_same_twice(held_out: HeldOut) -> None:
    rows = rows_of(held_out, 800, [Queried("equal", 32, 10, held_out.cloud.queries)])
    assert plot(rows, 1.0) == plot(rows, 1.0) != plot([], 1.0)
