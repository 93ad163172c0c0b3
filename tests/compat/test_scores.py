"""Who is relevant to whom, and scores in blocks."""

import numpy as np
import pytest

from compat.errors import UsageError
from compat.scores import match, relevance, score_blocks


def test_matches_are_the_rows_with_the_same_key():
    matches = match(["b", "a", "z"], ["a", "b", "a", "c"])
    assert [matches.of(i).tolist() for i in range(3)] == [[1], [0, 2], []]
    assert matches.counts.tolist() == [1, 2, 0]


def test_matches_take_memory_by_items_and_not_by_pairs():
    matches = match([0] * 3000, [0] * 4000)
    assert matches.group.size + matches.rows.size + matches.starts.size < 8000


def test_text_and_numbers_are_not_compared():
    with pytest.raises(UsageError, match="differ in type"):
        match(["1"], [1])


def test_a_query_s_own_image_is_not_relevant_to_it():
    both = relevance(["a", "a"], ["a", "a"], query_ids=["x", "y"], gallery_ids=["y", "z"])
    assert both.of(0).tolist() == [0, 1]
    assert both.of(1).tolist() == [1]


@pytest.mark.parametrize("ids", [{"query_ids": ["x"]}, {"gallery_ids": ["x"]}])
def test_ids_on_one_side_only_are_refused(ids):
    with pytest.raises(UsageError, match="both sides"):
        relevance(["a"], ["a"], **ids)


def test_ids_must_correspond_to_labels():
    with pytest.raises(UsageError, match="one id for each label"):
        relevance(["a"], ["a"], query_ids=["x", "y"], gallery_ids=["x"])


@pytest.mark.parametrize("block_bytes", [1, 4 * 7 * 3, 2**20])
def test_blocks_together_are_the_cosines(block_bytes):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(10, 5)), rng.normal(size=(7, 5))
    expected = [
        [q @ g / np.sqrt(q @ q) / np.sqrt(g @ g) for g in gallery] for q in query
    ]  # pair by pair
    seen = np.full((10, 7), np.nan)
    for rows, scores in score_blocks(query, gallery, block_bytes=block_bytes):
        assert len(rows) == max(1, min(10, block_bytes // 28)) or rows[-1] == 9
        seen[rows] = scores
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_only_wanted_queries_are_scored_and_own_images_are_out():
    rng = np.random.default_rng(0)
    query = rng.normal(size=(4, 3))
    same = match([0, 1, 2, 3], [3, 1])
    [(rows, scores)] = list(score_blocks(query, query[:2], same=same, queries=np.array([1, 3])))
    assert rows.tolist() == [1, 3]
    assert np.isneginf(scores).tolist() == [[False, True], [True, False]]


def test_inputs_are_left_as_they_were():
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    before = query.copy(), gallery.copy()
    for _, scores in score_blocks(query, gallery):
        scores[:] = 7
    np.testing.assert_array_equal(query, before[0])
    np.testing.assert_array_equal(gallery, before[1])


@pytest.mark.parametrize(
    ("query", "gallery", "names"),
    [
        ([[np.nan, 1]], [[1, 0]], "query"),
        ([[1, 0]], [[np.inf, 1]], "gallery"),
        ([[1, 0]], [[0, 0]], "gallery"),
        ([[1, 0]], [[1, 0, 0]], "dimension"),
        ([1, 0], [[1, 0]], "query"),
    ],
)
def test_what_has_no_cosine_is_refused_by_name(query, gallery, names):
    with pytest.raises(UsageError, match=names):
        list(score_blocks(np.array(query, dtype=float), np.array(gallery, dtype=float)))
