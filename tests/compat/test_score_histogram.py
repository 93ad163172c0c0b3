"""The histogram of scores: pair by pair, ties and edges, own images, a separate gallery, blocks."""

import math

import numpy as np
import pytest

from compat.errors import UsageError
from compat.score_histogram import BINS, MAX_QUERIES, score_histogram
from compat.scores import relevance


def slow(query, gallery, query_labels, gallery_labels, query_ids=None, gallery_ids=None):
    """Pair by pair, in Python's own floats."""
    genuine, impostor = [0] * BINS, [0] * BINS
    for q, row in enumerate(query.tolist()):
        for g, item in enumerate(gallery.tolist()):
            if query_ids is not None and query_ids[q] == gallery_ids[g]:
                continue
            norm = math.sqrt(sum(a * a for a in row) * sum(b * b for b in item))
            cosine = sum(a * b for a, b in zip(row, item, strict=True)) / norm
            place = min(BINS - 1, math.floor((cosine + 1) / 2 * BINS))
            (genuine if query_labels[q] == gallery_labels[g] else impostor)[place] += 1
    return tuple(genuine), tuple(impostor)


def drawn(seed, n, dim=16):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_equals_pair_by_pair_with_own_images_taken_out():
    query, gallery = drawn(0, 12), drawn(1, 30)
    gallery[:4] = query[:4]
    q_labels, g_labels = [i % 3 for i in range(12)], [i % 5 for i in range(30)]
    ids = list(range(12)), [*range(4), *range(100, 126)]
    found = score_histogram(
        query, gallery, relevance(q_labels, g_labels, query_ids=ids[0], gallery_ids=ids[1])
    )
    assert (found.genuine, found.impostor) == slow(query, gallery, q_labels, g_labels, *ids)
    assert sum(found.genuine) + sum(found.impostor) == 12 * 30 - 4


def test_small_blocks_give_the_same():
    query, gallery = drawn(2, 40), drawn(3, 25)
    known = relevance([i % 4 for i in range(40)], [i % 4 for i in range(25)])
    whole = score_histogram(query, gallery, known)
    assert score_histogram(query, gallery, known, block_bytes=1) == whole


def test_noise_is_not_parted():
    """Labels that mean nothing: genuine and impostor scores lie alike."""
    query, gallery = drawn(4, 300), drawn(5, 300)
    labels = np.random.default_rng(6).integers(5, size=(2, 300)).tolist()
    found = score_histogram(query, gallery, relevance(*labels))
    centres = (np.arange(BINS) + 0.5) * 2 / BINS - 1
    means = [np.average(centres, weights=side) for side in (found.genuine, found.impostor)]
    assert means[0] == pytest.approx(means[1], abs=0.01)


def test_a_collapsed_embedding_is_one_bin_and_lone_queries_are_all_impostors():
    point = np.ones((5, 4), dtype=np.float32)
    found = score_histogram(point, point, relevance([0, 0, 1, 9, 9], [0, 0, 1, 1, 1]))
    assert found.genuine[-1] == sum(found.genuine) == 4 + 3
    assert found.impostor[-1] == sum(found.impostor) == 25 - 7


def test_many_queries_are_drawn_evenly_and_counted():
    query = drawn(7, 3 * MAX_QUERIES)
    found = score_histogram(query, drawn(8, 4), relevance([0] * len(query), [0, 1, 1, 1]))
    assert found.queries == MAX_QUERIES
    assert sum(found.genuine) == MAX_QUERIES
    assert sum(found.impostor) == 3 * MAX_QUERIES


def test_labels_of_another_set_are_refused():
    with pytest.raises(UsageError, match="do not correspond"):
        score_histogram(drawn(0, 3), drawn(1, 3), relevance([0, 1], [0, 1, 2]))
