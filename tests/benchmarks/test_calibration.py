"""Merging two generations: a fitted map puts their scores on one scale."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration import MAPS, merged
from benchmarks.evaluate import HeldOut, Sides
from compat.embedding import unit_rows
from compat.preprocess import Floats
from server_models.config import FamilyConfig
from server_models.family import Family


@pytest.fixture
def held_out(family: FamilyConfig, tmp_path: Path) -> HeldOut:
    return HeldOut(Family(family, tmp_path))


def embedded(held_out: HeldOut) -> Sides:
    """Both sides near the axis of their class."""
    names = sorted(set(held_out.classes))
    rng = np.random.default_rng(0)

    def side(images: tuple) -> Floats:
        axes = np.eye(16)[[names.index(image.label) for image in images]]
        return unit_rows((axes + rng.normal(0, 0.25, axes.shape)).astype(np.float32), "side")

    return Sides(side(held_out.queries), side(held_out.gallery))


def lifted(side: Floats) -> Floats:
    """The same directions seen from further away: every cosine c becomes (c + 3) / 4."""
    ones = np.full((len(side), 1), np.sqrt(3), dtype=np.float32)
    return unit_rows(np.hstack([side, ones]), "lifted")


def test_equal_generations_merge_as_one(held_out: HeldOut) -> None:
    same = embedded(held_out)
    by = {name: merged(held_out, (same, same), each) for name, each in MAPS.items()}
    for found in by.values():
        np.testing.assert_allclose(found, by["none"])  # any rising map keeps the order


def test_the_fitted_map_undoes_another_scale(held_out: HeldOut) -> None:
    plain = embedded(held_out)
    halves = plain, Sides(lifted(plain.queries), lifted(plain.gallery))
    wanted = np.nanmean(merged(held_out, (plain, plain), MAPS["none"]))
    raw = np.nanmean(merged(held_out, halves, MAPS["none"]))
    fitted = np.nanmean(merged(held_out, halves, MAPS["log odds"]))
    assert raw < wanted - 0.05  # every lifted row stands above every plain one
    assert fitted == pytest.approx(wanted, abs=0.03)
