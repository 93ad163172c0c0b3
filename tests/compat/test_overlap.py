"""Overlap of rankings against a slow oracle, noise, ties and shuffled items."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat.errors import UsageError
from compat.overlap import overlap_at_k, rank_biased_overlap, top_items
from compat.scores import match

GRID_ROW = st.tuples(*[st.integers(-1, 1)] * 3).filter(any)


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return round(dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)), 6)


def surely_in_top(query, gallery, depth):
    """Items that are in the first `depth` whichever way equal scores are put in order."""
    scores = [cosine(query, item) for item in gallery]
    return {i for i, s in enumerate(scores) if sum(other >= s for other in scores) <= depth}


def test_the_oracle_s_idea_of_surely_is_every_order():
    """The definition in words, tried out: intersect the top 2 of all orders that the ties allow."""
    scores = [0.9, 0.5, 0.5, 0.1]
    orders = [
        p
        for p in itertools.permutations(range(4))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(p))
    ]
    assert set.intersection(*[set(p[:2]) for p in orders]) == {0}
    angles = [(s, math.sqrt(1 - s * s)) for s in scores]
    assert surely_in_top((1.0, 0.0), angles, 2) == {0}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(GRID_ROW, min_size=1, max_size=4),
    st.lists(st.tuples(GRID_ROW, GRID_ROW), min_size=1, max_size=16),
    st.integers(1, 8),
)
def test_equals_the_oracle_where_almost_everything_ties(query, pairs, k):
    mine, theirs = (np.array(side, dtype=np.float32) for side in zip(*pairs, strict=True))
    rows = np.array(query, dtype=np.float32)
    a, b = top_items(rows, mine, k), top_items(rows, theirs, k)
    size = min(k, len(pairs))
    for i, q in enumerate(query):
        agreement = [
            len(surely_in_top(q, mine, d) & surely_in_top(q, theirs, d)) / min(d, len(pairs))
            for d in range(1, k + 1)
        ]
        assert overlap_at_k(a, b)[i] == pytest.approx(agreement[size - 1])
        expected = 0.1 * sum(0.9 ** (d - 1) * x for d, x in enumerate(agreement, 1))
        expected += 0.9**k * agreement[-1]
        assert rank_biased_overlap(a, b)[i] == pytest.approx(expected)


def test_a_ranking_without_ties_agrees_with_itself():
    rng = np.random.default_rng(0)
    top = top_items(rng.normal(size=(20, 8)), rng.normal(size=(100, 8)), 10)
    assert overlap_at_k(top, top).tolist() == [1.0] * 20
    np.testing.assert_allclose(rank_biased_overlap(top, top), 1)


def test_top_items_are_the_best_in_order():
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(9, 8)), rng.normal(size=(57, 8))
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    expected = np.argsort(-(query @ unit.T), axis=1)[:, :10]
    top = top_items(query, gallery, 10)
    np.testing.assert_array_equal(top.rows, expected)
    assert (top.ranks == np.arange(1, 11)).all()


def test_noise_overlaps_at_chance():
    rng = np.random.default_rng(0)
    shape = (500, 12)
    a = top_items(rng.normal(size=shape), rng.normal(size=(200, 12)), 10)
    b = top_items(rng.normal(size=shape), rng.normal(size=(200, 12)), 10)
    assert overlap_at_k(a, b).mean() == pytest.approx(10 / 200, abs=0.01)
    assert rank_biased_overlap(a, b).mean() < 0.06


def test_attack_a_collapsed_model_shares_no_top_ten():
    """All items tie: were ties broken by position, two constants would agree in everything."""
    flat = top_items(np.ones((3, 4)), np.ones((40, 4)), 10)
    assert overlap_at_k(flat, flat).tolist() == [0, 0, 0]
    assert rank_biased_overlap(flat, flat).tolist() == [0, 0, 0]


def test_no_order_of_items_changes_a_number():
    rng = np.random.default_rng(1)
    query = rng.integers(-1, 2, size=(12, 4)) + np.array([0, 0, 0, 0.5])
    mine = rng.integers(-1, 2, size=(60, 4)) + np.array([0, 0, 0, 0.5])
    theirs = mine + rng.integers(0, 2, size=mine.shape)
    place = rng.permutation(60)
    before = [top_items(query, side, 10) for side in (mine, theirs)]
    after = [top_items(query, side[place], 10) for side in (mine, theirs)]
    assert overlap_at_k(*before).tolist() == overlap_at_k(*after).tolist()
    assert rank_biased_overlap(*before).tolist() == rank_biased_overlap(*after).tolist()
    assert 0 < overlap_at_k(*before).mean() < 1


def test_it_does_not_matter_who_is_asked_first():
    rng = np.random.default_rng(2)
    a = top_items(rng.normal(size=(9, 5)), gallery := rng.normal(size=(30, 5)), 7)
    b = top_items(rng.normal(size=(9, 5)), gallery, 7)
    assert overlap_at_k(a, b).tolist() == overlap_at_k(b, a).tolist()
    np.testing.assert_allclose(rank_biased_overlap(a, b), rank_biased_overlap(b, a))


def test_agreement_at_the_top_weighs_more():
    """The same two shared items, at ranks 1 and 2 or at 9 and 10."""
    query = np.array([[1.0, 0.0]])
    angles = np.linspace(0.1, 1.5, 20)
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = top_items(query, gallery, 10)
    keep_first = top_items(query, gallery[[0, 1, *range(10, 20), *range(2, 10)]], 10)
    keep_last = top_items(query, gallery[[*range(10, 18), 8, 9, *range(8), 18, 19]], 10)
    assert overlap_at_k(best, keep_first)[0] == overlap_at_k(best, keep_last)[0] == 0.2
    assert rank_biased_overlap(best, keep_first)[0] > rank_biased_overlap(best, keep_last)[0]


def test_a_query_s_own_image_is_no_item():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(12, 4))
    same = match(np.arange(12), np.arange(12))
    top = top_items(rows, rows, 10, same=same)
    assert not (top.rows == np.arange(12)[:, None]).any()
    assert top.available.tolist() == [11] * 12


def test_a_gallery_smaller_than_k_is_shared_whole():
    rng = np.random.default_rng(4)
    top = top_items(rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), 10)
    assert overlap_at_k(top, top).tolist() == [1.0] * 3


def test_without_an_item_there_is_no_overlap_to_speak_of():
    top = top_items(np.eye(2), np.empty((0, 2)), 10)
    assert np.isnan(overlap_at_k(top, top)).all()
    own = match([0, 1], [0, 0])
    left_alone = top_items(np.eye(2), np.eye(2), 10, same=own)
    assert np.isnan(overlap_at_k(left_alone, left_alone)).tolist() == [True, False]


def test_rankings_of_other_galleries_are_refused():
    a, b = top_items(np.eye(3), np.eye(3), 2), top_items(np.eye(3), np.eye(3)[:2], 2)
    with pytest.raises(UsageError, match="same queries, gallery and k"):
        overlap_at_k(a, b)


@pytest.mark.parametrize("persistence", [0.0, 1.0, float("nan")])
def test_a_persistence_outside_its_range_is_refused(persistence):
    top = top_items(np.eye(3), np.eye(3), 2)
    with pytest.raises(UsageError, match="persistence"):
        rank_biased_overlap(top, top, persistence=persistence)


def test_no_top_of_nothing():
    with pytest.raises(UsageError, match="at least 1"):
        top_items(np.eye(3), np.eye(3), 0)


def test_a_long_gallery_is_searched_in_chunks_and_nothing_is_lost():
    """More than k + 1 chunks of the gallery, against a full sort."""
    rng = np.random.default_rng(5)
    query, gallery = rng.normal(size=(7, 8)), rng.normal(size=(3001, 8))
    query, gallery = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for rows in (query, gallery)
    )
    order = np.argsort(-(query @ gallery.T), axis=1, kind="stable")
    np.testing.assert_array_equal(top_items(query, gallery, 10).rows, order[:, :10])
