"""Parity: what a cosine hides, and what shows it."""

import math

import numpy as np
import pytest

from compat.errors import UsageError
from compat.parity import mean_pairwise_cosine, measure_parity


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def test_equals_the_oracle():
    rng = np.random.default_rng(0)
    reference = unit(rng.normal(size=(30, 8)) + 2)
    measured = unit(reference + 0.1 * rng.normal(size=(30, 8)))
    middle = [sum(float(row[d]) for row in reference) / 30 for d in range(8)]
    cosines = [slow_cosine(a, b) for a, b in zip(measured, reference, strict=True)]
    centred = [
        slow_cosine(
            [x - m for x, m in zip(a, middle, strict=True)],
            [x - m for x, m in zip(b, middle, strict=True)],
        )
        for a, b in zip(measured, reference, strict=True)
    ]
    parity = measure_parity(measured, reference)
    assert parity.cosine_min == pytest.approx(min(cosines), abs=1e-6)
    assert parity.cosine_mean == pytest.approx(sum(cosines) / 30, abs=1e-6)
    assert parity.centred_cosine_mean == pytest.approx(sum(centred) / 30, abs=1e-5)


def test_the_same_embeddings_are_at_parity():
    rows = unit(np.random.default_rng(0).normal(size=(10, 8)))
    parity = measure_parity(rows, rows)
    assert parity.cosine_min == pytest.approx(1, abs=1e-6)
    assert parity.centred_cosine_mean == pytest.approx(1, abs=1e-6)


def test_attack_shuffled_answers_in_a_narrow_cone():
    """Cosine 0.99 for every image, and yet each image got another one's embedding."""
    rng = np.random.default_rng(1)
    reference = unit(10 + 0.5 * rng.normal(size=(200, 16)))
    parity = measure_parity(np.roll(reference, 1, axis=0), reference)
    assert parity.cosine_mean > 0.99
    assert abs(parity.centred_cosine_mean) < 0.1


def test_a_constant_offset_is_seen():
    rng = np.random.default_rng(2)
    reference = unit(10 + 0.5 * rng.normal(size=(200, 16)))
    offset = unit(reference + np.linspace(0, 0.3, 16))
    parity = measure_parity(offset, reference)
    assert parity.cosine_mean > 0.95
    assert parity.centred_cosine_mean < 0.5


def test_a_constant_embedder_has_no_centred_parity():
    constant = unit(np.ones((5, 4)))
    assert measure_parity(constant, constant).centred_cosine_mean == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(broken):
    rows = unit(np.random.default_rng(0).normal(size=(4, 3)))
    spoilt = rows.copy()
    spoilt[2, 1] = broken
    with pytest.raises(UsageError, match="row 2 of 4"):
        measure_parity(spoilt, rows)


def test_other_images_are_refused():
    rows = unit(np.random.default_rng(0).normal(size=(4, 3)))
    with pytest.raises(UsageError, match="do not correspond"):
        measure_parity(rows[:3], rows)


def test_mean_pairwise_cosine_equals_all_pairs():
    rows = unit(np.random.default_rng(3).normal(size=(20, 5)) + 1)
    pairs = [slow_cosine(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    assert mean_pairwise_cosine(rows) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert mean_pairwise_cosine(unit(np.ones((7, 3)))) == pytest.approx(1, abs=1e-6)
