"""Which rows move most: read off the rows that are done."""

import numpy as np

from compat.backfill_order import expected_change, most_changed_first


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_oracle(old, done_old, done_new):
    found = []
    for row in old.tolist():
        total = weighted = 0.0
        for was, now in zip(done_old.tolist(), done_new.tolist(), strict=True):
            cosine = sum(a * b for a, b in zip(row, was, strict=True))
            weight = np.exp(10 * (cosine - 1))
            total += weight
            weighted += weight * (1 - sum(a * b for a, b in zip(was, now, strict=True)))
        found.append(weighted / total)
    return found


def test_it_is_the_weighted_mean():
    rng = np.random.default_rng(0)
    old, was, now = (unit(rng.normal(size=(n, 6))) for n in (20, 15, 15))
    np.testing.assert_allclose(
        expected_change(old, was, now), slow_oracle(old, was, now), rtol=1e-4
    )


def test_rows_near_those_that_moved_come_first():
    """One corner of the old space moves, the rest stays: that corner is done first."""
    rng = np.random.default_rng(1)
    corner = np.eye(6)[0] * 4
    old = unit(
        np.concatenate([rng.normal(size=(50, 6)) + corner, rng.normal(size=(50, 6)) - corner])
    )
    new = old.copy()
    new[:50] = unit(rng.normal(size=(50, 6)))
    sample = np.arange(0, 100, 10)
    rest = np.setdiff1d(np.arange(100), sample)
    first = rest[most_changed_first(old[rest], old[sample], new[sample])]
    assert set(first[:45]) == set(rest[rest < 50])


def test_nothing_done_keeps_the_order_given():
    old, none = np.eye(4, dtype=np.float32), np.zeros((0, 4), np.float32)
    assert most_changed_first(old, none, none).tolist() == [0, 1, 2, 3]
