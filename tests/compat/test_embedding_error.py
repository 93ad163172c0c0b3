"""Embedding errors against loops over plain numbers, and what a cosine would not have said."""

import math

import numpy as np
import pytest

from compat.embedding_error import centred_error, margin_normalised_error, margins
from compat.errors import UsageError
from compat.scores import relevance

LABELS_Q, LABELS_G = ["a", "b", "a", "lone"], ["a", "b", "b", "c", "a"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(n, 6)).astype(np.float32) for n in (4, 4, 5))


def unit(row):
    return [x / math.hypot(*row) for x in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_margins_equal_their_definition(rows):
    _, reference, gallery = rows
    found = margins(reference, gallery, relevance(LABELS_Q, LABELS_G), block_bytes=40)
    for i, label in enumerate(LABELS_Q[:3]):
        scores = [dot(unit(reference[i].tolist()), unit(g.tolist())) for g in gallery]
        right = max(s for s, other in zip(scores, LABELS_G, strict=True) if other == label)
        wrong = max(s for s, other in zip(scores, LABELS_G, strict=True) if other != label)
        assert found[i] == pytest.approx(right - wrong, abs=1e-6)
    assert math.isnan(found[3])  # a lone query has no margin


def test_the_querys_own_image_is_no_answer(rows):
    _, reference, gallery = rows
    gallery[0] = reference[0]
    own = relevance(
        LABELS_Q, LABELS_G, query_ids=["q0", "q1", "q2", "q3"], gallery_ids=["q0", *"wxyz"]
    )
    found = margins(reference, gallery, own)
    scores = [dot(unit(reference[0].tolist()), unit(g.tolist())) for g in gallery]
    assert found[0] == pytest.approx(scores[4] - max(scores[1:4]), abs=1e-6)


def test_errors_equal_their_definitions(rows):
    measured, reference, _ = rows
    margin = np.array([0.5, -0.2, 0.0, math.nan])
    found = margin_normalised_error(measured, reference, margin)
    centred = centred_error(measured, reference)
    units = [unit(row.tolist()) for row in reference]
    mean = [sum(column) / 4 for column in zip(*units, strict=True)]
    for i in range(4):
        distance = math.dist(unit(measured[i].tolist()), units[i])
        assert centred[i] == pytest.approx(distance / math.dist(units[i], mean), rel=1e-5)
    assert found[0] == pytest.approx(
        math.dist(unit(measured[0].tolist()), units[0]) / 0.5, rel=1e-5
    )
    assert found[1] > 0  # a wrong answer has a margin too
    assert math.isfinite(found[2])
    assert math.isnan(found[3])


def test_below_a_half_no_answer_changes():
    """The bound that the docstring states, on many random queries."""
    rng = np.random.default_rng(1)
    labels_q, labels_g = rng.integers(9, size=300), rng.integers(9, size=80)
    gallery = rng.normal(size=(80, 8)).astype(np.float32)
    reference = rng.normal(size=(300, 8)).astype(np.float32)
    measured = (reference + 0.03 * rng.normal(size=reference.shape)).astype(np.float32)
    known = relevance(labels_q, labels_g)
    before, after = margins(reference, gallery, known), margins(measured, gallery, known)
    safe = margin_normalised_error(measured, reference, before) < 0.5
    assert 20 < safe.sum() < 300
    assert (np.sign(before[safe]) == np.sign(after[safe])).all()


def test_a_collapsed_cone_has_a_good_cosine_and_a_large_error():
    rng = np.random.default_rng(2)
    cone = (np.eye(8)[0] * 100 + rng.normal(size=(50, 8))).astype(np.float32)
    shuffled = cone[rng.permutation(50)]
    cosines = (
        (cone * shuffled).sum(1) / np.linalg.norm(cone, axis=1) / np.linalg.norm(shuffled, axis=1)
    )
    assert cosines.min() > 0.99
    assert centred_error(shuffled, cone).mean() > 1


def test_rows_must_correspond(rows):
    measured, _, gallery = rows
    with pytest.raises(UsageError, match="do not correspond"):
        centred_error(measured, gallery)
