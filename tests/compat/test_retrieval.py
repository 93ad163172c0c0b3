"""Every measure faces a slow oracle, pure noise, ties, lone queries and a shuffled gallery."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat.errors import UsageError
from compat.retrieval import (
    average_precision,
    average_precision_at_r,
    hit_rate_at_k,
    mean,
    r_precision,
    recall_at_k,
    relevant_ranks,
    retrieval_per_query,
)
from compat.scores import relevance


def oracle(query, gallery, query_labels, gallery_labels, own=None):
    """Rank pair by pair in float64 with Python's sort; irrelevant items first among equals."""
    results = []
    for i, q in enumerate(query):
        items = []
        for j, g in enumerate(gallery):
            if own is not None and own[i] == j:
                continue
            dot = sum(float(a) * float(b) for a, b in zip(q, g, strict=True))
            size = math.sqrt(sum(float(a) ** 2 for a in q)) * math.sqrt(
                sum(float(b) ** 2 for b in g)
            )
            items.append((-round(dot / size, 6), query_labels[i] == gallery_labels[j]))
        order = [is_relevant for _, is_relevant in sorted(items)]
        total = sum(order)
        if not total:
            results.append([math.nan] * 6)
            continue
        precisions = [sum(order[: r + 1]) / (r + 1) for r in range(len(order)) if order[r]]
        at_r = [sum(order[: r + 1]) / (r + 1) for r in range(total) if order[r]]
        results.append(
            [
                float(any(order[:1])),
                float(any(order[:10])),
                sum(order[:10]) / total,
                sum(precisions) / total,
                sum(order[:total]) / total,
                sum(at_r) / total,
            ]
        )
    return np.array(results).T


def measured(query, gallery, query_labels, gallery_labels, **more):
    found = retrieval_per_query(query, gallery, relevance(query_labels, gallery_labels), **more)
    return np.array(astuple(found))


GRID_ROW = st.tuples(*[st.integers(-1, 1)] * 3).filter(any)  # few directions: many exact ties


@st.composite
def grids(draw):
    """Queries and a gallery on a grid, with labels of few classes, lone ones among them."""
    query = draw(st.lists(GRID_ROW, min_size=1, max_size=6))
    gallery = draw(st.lists(GRID_ROW, min_size=1, max_size=25))
    query_labels = draw(st.lists(st.integers(0, 3), min_size=len(query), max_size=len(query)))
    gallery_labels = draw(st.lists(st.integers(0, 2), min_size=len(gallery), max_size=len(gallery)))
    return (
        np.array(query, dtype=np.float32),
        np.array(gallery, dtype=np.float32),
        np.array(query_labels),
        np.array(gallery_labels),
    )


@settings(max_examples=80, deadline=None)
@given(grids())
def test_equals_the_oracle_where_almost_everything_ties(grid):
    np.testing.assert_allclose(measured(*grid), oracle(*grid), atol=1e-12)


def test_equals_the_oracle_on_a_separate_gallery():
    rng = np.random.default_rng(1)
    labels = rng.integers(12, size=40), rng.integers(10, size=150)  # classes 10, 11: lone queries
    centres = rng.normal(size=(12, 8))
    query = (centres[labels[0]] + rng.normal(size=(40, 8))).astype(np.float32)
    gallery = (centres[labels[1]] + rng.normal(size=(150, 8))).astype(np.float32)
    ours, slow = measured(query, gallery, *labels), oracle(query, gallery, *labels)
    np.testing.assert_allclose(ours, slow, atol=1e-12)
    assert np.isnan(ours[0]).sum() == (labels[0] >= 10).sum() > 0


def test_equals_the_oracle_when_the_gallery_is_the_query_set():
    rng = np.random.default_rng(2)
    labels = rng.integers(9, size=50)
    labels[7] = 99  # only its own image is of its class: lone once that is taken out
    rows = rng.normal(size=(50, 6)).astype(np.float32)
    ids = np.arange(50)
    both = relevance(labels, labels, query_ids=ids, gallery_ids=ids)
    found = retrieval_per_query(rows, rows, both)
    slow = oracle(rows, rows, labels, labels, own=ids)
    np.testing.assert_allclose(np.array(astuple(found)), slow, atol=1e-12)
    assert not found.counted[7]
    assert found.counted.sum() == 49


def test_leaving_the_same_image_in_would_be_perfect():
    """What the exclusion is for: without it noise finds itself at rank 1."""
    rng = np.random.default_rng(3)
    labels, rows = np.repeat(np.arange(50), 2), rng.normal(size=(100, 16)).astype(np.float32)
    ids = np.arange(100)
    flattered = retrieval_per_query(rows, rows, relevance(labels, labels))
    honest = retrieval_per_query(
        rows, rows, relevance(labels, labels, query_ids=ids, gallery_ids=ids)
    )
    assert mean(flattered.hit_rate_at_1).value == 1
    assert mean(honest.hit_rate_at_1).value < 0.1


def expected_average_precision_of_noise(relevant: int, items: int) -> float:
    """Mean over all orders: an item at rank i is relevant with chance R / G, and so on."""
    return (
        sum((1 + (i - 1) * (relevant - 1) / (items - 1)) / i for i in range(1, items + 1)) / items
    )


def test_noise_scores_at_chance():
    """A measure that flatters noise is broken, whatever it says of a good model."""
    rng = np.random.default_rng(0)
    per_class, classes = 20, 50
    query_labels = rng.integers(classes, size=600)
    gallery_labels = np.repeat(np.arange(classes), per_class)
    noise = rng.normal(size=(600, 16)), rng.normal(size=(1000, 16))
    found = retrieval_per_query(*noise, relevance(query_labels, gallery_labels))
    chance = expected_average_precision_of_noise(per_class, 1000)
    none_in_ten = math.comb(980, 10) / math.comb(1000, 10)
    assert mean(found.hit_rate_at_1).value == pytest.approx(1 / classes, abs=0.015)
    assert mean(found.hit_rate_at_10).value == pytest.approx(1 - none_in_ten, abs=0.04)
    assert mean(found.recall_at_10).value == pytest.approx(10 / 1000, abs=0.003)
    assert mean(found.average_precision).value == pytest.approx(chance, rel=0.1)
    assert mean(found.r_precision).value == pytest.approx(1 / classes, abs=0.004)
    assert mean(found.average_precision_at_r).value < 0.01


def test_attack_a_collapsed_model_ties_everything_and_gains_nothing():
    """Were ties broken by position or in favour, a constant embedding could score 1."""
    query, gallery = np.ones((6, 4)), np.ones((30, 4))
    query_labels, gallery_labels = np.arange(6) % 3, np.sort(np.arange(30) % 3)
    found = retrieval_per_query(query, gallery, relevance(query_labels, gallery_labels))
    for name in ("hit_rate_at_1", "hit_rate_at_10", "recall_at_10", "r_precision"):
        assert getattr(found, name).tolist() == [0] * 6, name
    worst = np.mean([j / (20 + j) for j in range(1, 11)])
    np.testing.assert_allclose(found.average_precision, worst)


def test_attack_a_copy_of_the_relevant_item_under_another_label_ranks_before_it():
    """float32 sums depend on the place in the matrix; equal vectors must tie at any place."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(1003, 131)).astype(np.float32)
    query = gallery[::17] + 0.1 * rng.normal(size=gallery[::17].shape).astype(np.float32)
    labels = np.arange(1003)
    place = rng.permutation(1062)
    copied = np.concatenate([gallery, gallery[::17]])[place]
    copied_labels = np.concatenate([labels, -labels[::17] - 1])[place]
    alone = retrieval_per_query(query, gallery, relevance(labels[::17], labels))
    beside = retrieval_per_query(query, copied, relevance(labels[::17], copied_labels))
    assert alone.hit_rate_at_1.min() == 1
    assert beside.hit_rate_at_1.max() == 0
    np.testing.assert_allclose(beside.average_precision, 0.5)


@settings(max_examples=40, deadline=None)
@given(grids(), st.randoms(use_true_random=False))
def test_no_order_of_items_changes_a_number(grid, random):
    query, gallery, query_labels, gallery_labels = grid
    items = random.sample(range(len(gallery)), len(gallery))
    asked = random.sample(range(len(query)), len(query))
    shuffled = measured(query[asked], gallery[items], query_labels[asked], gallery_labels[items])
    np.testing.assert_array_equal(shuffled, measured(*grid)[:, asked])


@settings(max_examples=40, deadline=None)
@given(grids(), GRID_ROW)
def test_a_further_irrelevant_item_never_helps(grid, row):
    query, gallery, query_labels, gallery_labels = grid
    more = measured(
        query,
        np.concatenate([gallery, np.array([row], dtype=np.float32)]),
        query_labels,
        np.append(gallery_labels, 77),
    )
    before = measured(*grid)
    assert (np.isnan(more) == np.isnan(before)).all()
    assert not (more > before + 1e-12).any()


@settings(max_examples=40, deadline=None)
@given(grids(), st.data())
def test_bringing_a_relevant_item_to_the_query_never_hurts(grid, data):
    query, gallery, query_labels, gallery_labels = grid
    i = data.draw(st.integers(0, len(query) - 1))
    answers = np.flatnonzero(gallery_labels == query_labels[i])
    if not len(answers):
        return
    moved = gallery.copy()
    moved[data.draw(st.sampled_from(answers.tolist()))] = query[i]
    after = measured(query, moved, query_labels, gallery_labels)[:, i]
    assert not (after < measured(*grid)[:, i] - 1e-12).any()


@pytest.mark.parametrize("block_bytes", [1, 500, 2**20])
def test_blocks_do_not_change_a_number(block_bytes):
    rng = np.random.default_rng(4)
    labels = rng.integers(5, size=33), rng.integers(5, size=70)
    sides = rng.normal(size=(33, 7)), rng.normal(size=(70, 7))
    np.testing.assert_array_equal(
        measured(*sides, *labels), measured(*sides, *labels, block_bytes=block_bytes)
    )


def test_a_rerun_gives_the_same_bytes():
    rng = np.random.default_rng(5)
    labels = rng.integers(5, size=33), rng.integers(5, size=70)
    sides = rng.normal(size=(33, 7)), rng.normal(size=(70, 7))
    assert measured(*sides, *labels).tobytes() == measured(*sides, *labels).tobytes()


def test_scale_of_embeddings_does_not_count():
    rng = np.random.default_rng(6)
    labels = rng.integers(5, size=20), rng.integers(5, size=50)
    query, gallery = rng.normal(size=(20, 7)), rng.normal(size=(50, 7))
    np.testing.assert_array_equal(
        measured(query, gallery, *labels), measured(query * 9, gallery / 5, *labels)
    )


def test_lone_queries_are_skipped_and_counted():
    found = retrieval_per_query(
        np.eye(3), np.eye(3)[:2], relevance(["a", "b", "nobody"], ["a", "b"])
    )
    one = mean(found.hit_rate_at_1)
    assert (one.value, one.counted, one.skipped) == (1.0, 2, 1)
    assert found.counted.tolist() == [True, True, False]


def test_a_mean_over_nothing_is_not_a_number():
    nothing = mean(np.array([np.nan, np.nan]))
    assert math.isnan(nothing.value)
    assert (nothing.counted, nothing.skipped) == (0, 2)


def test_measures_of_known_ranks():
    ranks = np.array([1, 4, 20])
    assert hit_rate_at_k(ranks, 1) == 1
    assert hit_rate_at_k(ranks[1:], 3) == 0
    assert recall_at_k(ranks, 4) == pytest.approx(2 / 3)
    assert average_precision(ranks) == pytest.approx((1 + 2 / 4 + 3 / 20) / 3)
    assert r_precision(ranks) == pytest.approx(1 / 3)
    assert average_precision_at_r(ranks) == pytest.approx(1 / 3)
    assert average_precision_at_r(np.array([2, 3, 9])) == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_ranks_are_within_the_gallery_and_distinct():
    rng = np.random.default_rng(7)
    labels = rng.integers(5, size=20), rng.integers(5, size=50)
    ranked = list(
        relevant_ranks(rng.normal(size=(20, 3)), rng.normal(size=(50, 3)), relevance(*labels))
    )
    assert len(ranked) == 20
    for _, ranks in ranked:
        assert ranks[0] >= 1
        assert ranks[-1] <= 50
        assert (np.diff(ranks) > 0).all()


def test_an_empty_gallery_leaves_every_query_lone():
    found = retrieval_per_query(np.eye(2), np.empty((0, 2)), relevance(["a", "b"], []))
    assert not found.counted.any()


def test_labels_of_another_set_are_refused():
    with pytest.raises(UsageError, match="do not correspond"):
        retrieval_per_query(np.eye(3), np.eye(3), relevance([1, 2], [1, 2, 3]))


def test_attack_a_nan_embedding_is_not_ranked():
    broken = np.eye(3)
    broken[1, 1] = np.nan
    with pytest.raises(UsageError, match="query embeddings: row 1"):
        retrieval_per_query(broken, np.eye(3), relevance([1, 2, 3], [1, 2, 3]))
