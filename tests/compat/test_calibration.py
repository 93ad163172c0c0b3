"""The scale of a pair's scores: against a slow oracle, and where there is none."""

import math

import numpy as np
import pytest

from compat.calibration import MAX_QUERIES, LogOdds, calibration, log_odds
from compat.errors import UsageError
from compat.scores import relevance

LABELS = [f"c{row % 20}" for row in range(120)]


def sides(seed, *, noise=0.15):
    """(120, 32) embeddings of 20 classes."""
    centres = np.random.default_rng(0).normal(size=(20, 32)) / math.sqrt(32)
    rng = np.random.default_rng(seed)
    rows = centres[np.arange(120) % 20] + noise * rng.normal(size=(120, 32))
    return rows.astype(np.float32)


def cosines(query, gallery):
    query, gallery = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)
    )
    return query @ gallery.T


def slow_loss(slope, offset, query, gallery):
    """Cross-entropy pair by pair, each side one half, in Python's own floats."""
    sides = {True: [], False: []}
    for row, scores in enumerate(cosines(query, gallery).tolist()):
        for column, score in enumerate(scores):
            sides[LABELS[row] == LABELS[column]].append(score)
    nats = 0.0
    for is_genuine, scores in sides.items():
        target = ((len(scores) + 1) if is_genuine else 1) / (len(scores) + 2)
        for score in scores:
            probable = 1 / (1 + math.exp(-(slope * score + offset)))
            part = target * math.log(probable) + (1 - target) * math.log(1 - probable)
            nats -= part / (2 * len(scores))
    return nats


def test_no_other_line_explains_the_pairs_better():
    query, gallery = sides(1), sides(2)
    found = log_odds(query, gallery, relevance(LABELS, LABELS))
    best = slow_loss(found.slope, found.offset, query, gallery)
    assert best < math.log(2)
    for turn in (-1e-2, 1e-2):
        assert slow_loss(found.slope * (1 + turn), found.offset, query, gallery) > best
        assert slow_loss(found.slope, found.offset * (1 + turn), query, gallery) > best


def test_a_pair_is_its_own_scale():
    odds = log_odds(sides(1), sides(2), relevance(LABELS, LABELS))
    found = calibration(odds, odds)
    assert (found.scale, found.shift) == (1, 0)


def test_equal_odds_are_equal_scores():
    pair, reference = LogOdds(8.0, -2.0), LogOdds(4.0, -3.0)
    found = calibration(pair, reference)
    for cosine in (-0.5, 0.0, 0.9):
        score = found.scale * cosine + found.shift
        assert reference.slope * score + reference.offset == pytest.approx(8.0 * cosine - 2.0)


def test_sides_that_are_wholly_apart_have_a_finite_slope():
    query = np.eye(4, dtype=np.float32)
    found = log_odds(query, query, relevance(range(4), range(4)))
    assert 0 < found.slope < 100


def test_what_tells_nothing_apart_is_left_as_it_is():
    backwards = -sides(2)
    assert log_odds(sides(1), backwards, relevance(LABELS, LABELS)) is None
    assert log_odds(sides(1), sides(2), relevance(["x"] * 120, ["y"] * 120)) is None
    assert log_odds(sides(1), sides(2), relevance(["x"] * 120, ["x"] * 120)) is None
    odds = LogOdds(1.0, 0.0)
    assert calibration(None, odds) is None
    assert calibration(odds, None) is None
    assert calibration(LogOdds(1e6, 0.0), odds) is None  # no entry holds such a scale


def test_an_image_and_itself_are_no_pair():
    rows = sides(1)
    apart = log_odds(
        rows, rows, relevance(LABELS, LABELS, query_ids=range(120), gallery_ids=range(120))
    )
    whole = log_odds(rows, rows, relevance(LABELS, LABELS))
    even = [-odds.offset / odds.slope for odds in (apart, whole)]  # the cosine of even odds
    assert even[0] < even[1]


def test_of_very_many_queries_some_are_asked():
    query, labels = np.tile(sides(1), (20, 1)), LABELS * 20
    assert len(query) > MAX_QUERIES
    few = np.linspace(0, len(query) - 1, MAX_QUERIES).astype(int)
    every, some = (
        log_odds(query[rows], sides(2), relevance([labels[row] for row in rows], LABELS))
        for rows in (range(len(query)), few)
    )
    assert every == some


def test_labels_of_another_set_are_refused():
    with pytest.raises(UsageError, match="correspond"):
        log_odds(sides(1), sides(2), relevance(LABELS[:5], LABELS))
