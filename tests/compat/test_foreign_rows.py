"""Gallery rows by another model: a sample finds them, and its size is what it promises."""

import math

import numpy as np
import pytest

from compat.errors import RefusedError
from compat.foreign_rows import MISS, SHARE, check_rows, draw_rows, sample_size


def unit(rng, n, dim=16):
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("total", [300, 1500, 100_000])
def test_the_sample_misses_three_in_a_hundred_less_than_once_in_a_thousand(total):
    """Oracle: the exact count of samples without a foreign row (hypergeometric)."""
    foreign, n = math.ceil(SHARE * total), sample_size(total)
    missed = math.comb(total - foreign, n) / math.comb(total, n)
    assert missed < MISS
    assert n <= 227


def test_a_small_gallery_is_embedded_whole():
    assert draw_rows(50, 0).tolist() == list(range(50))


def test_rows_are_distinct_and_the_same_each_time():
    rows = draw_rows(5000, 7)
    assert len(set(rows.tolist())) == sample_size(5000) == 227
    assert rows.tolist() == draw_rows(5000, 7).tolist() != draw_rows(5000, 8).tolist()


def test_the_same_model_on_another_processor_passes():
    rng = np.random.default_rng(0)
    rows = unit(rng, 227)
    check_rows(rows, rows + rng.normal(scale=1e-3, size=rows.shape).astype(np.float32), ["x"] * 227)


def test_attack_rows_of_a_close_model_are_counted_and_named():
    rng = np.random.default_rng(1)
    rows = unit(rng, 227)
    stored = rows.copy()
    stored[[3, 200]] += rng.normal(scale=0.1, size=(2, 16)).astype(np.float32)
    before = stored.copy()
    names = [f"image-{i}" for i in range(227)]
    with pytest.raises(RefusedError, match=r"2 of 227 sampled gallery rows .*first image-3"):
        check_rows(stored, rows, names)
    assert np.array_equal(stored, before)


def test_noise_is_all_foreign():
    rng = np.random.default_rng(2)
    with pytest.raises(RefusedError, match="100 of 100"):
        check_rows(unit(rng, 100), unit(rng, 100), ["x"] * 100)
