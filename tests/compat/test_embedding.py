"""The one check at every public door."""

import numpy as np
import pytest

from compat.embedding import check_embeddings, cosine_rows, embed_pixels, unit_rows
from compat.errors import UsageError


def test_unit_rows_have_length_one_and_keep_their_direction():
    raw = np.array([[3.0, 4.0], [0.0, -1e-6], [1e6, 0.0]])
    before = raw.copy()
    unit = unit_rows(raw, "x")
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, -1], [1, 0]], atol=1e-7)
    np.testing.assert_array_equal(raw, before)


def test_large_float32_rows_do_not_overflow():
    raw = np.full((1, 4), 1e30, dtype=np.float32)  # its squares do not fit into float32
    np.testing.assert_allclose(unit_rows(raw, "x"), 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_attack_one_bad_row_is_named(bad):
    raw = np.eye(5)
    raw[3, 1] = bad
    with pytest.raises(UsageError, match="query: row 3 of 5 is zero or not finite"):
        unit_rows(raw, "query")


def test_a_zero_row_has_no_direction():
    with pytest.raises(UsageError, match="row 1 of 2"):
        unit_rows(np.array([[1.0, 0], [0, 0]]), "x")


def test_sides_of_one_dimension_pass():
    check_embeddings(query=np.eye(3), gallery=np.ones((7, 3)))


def test_sides_of_two_dimensions_are_refused():
    with pytest.raises(UsageError, match=r"'query': 3, 'gallery': 4"):
        check_embeddings(query=np.eye(3), gallery=np.eye(4))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_what_is_no_batch_is_refused(shape):
    with pytest.raises(UsageError, match=r"gallery embeddings must be \(N, D\)"):
        check_embeddings(gallery=np.ones(shape))


def test_cosine_rows_equal_a_loop():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    expected = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(cosine_rows(a, b), expected, atol=1e-6)
    assert cosine_rows(a, a).max() <= 1


def test_rows_must_correspond():
    with pytest.raises(UsageError, match="3 against 2"):
        cosine_rows(np.eye(3), np.eye(3)[:2])


def test_batches_together_are_the_whole(drawn):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(10, 8, 8, 3), dtype=np.uint8)
    embedder = drawn.member_embedder
    whole = embedder.embed(embedder.preprocess.normalised(pixels))
    batches = list(embed_pixels(embedder, pixels, batch=4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate(batches), whole, atol=1e-6)
