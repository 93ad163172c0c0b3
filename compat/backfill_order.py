"""Which rows of a gallery a new model will move most: those are embedded again first.

FastFill (ICLR 2023) orders a backfill by the uncertainty of a map from the old embeddings to the
new. Here the uncertainty is read off the rows that are done already: a row is expected to move as
far as the done rows near it in the old space have moved. It needs no labels, no training images and
no old model, and it gets better as the backfill goes on.
"""

import numpy as np

from compat.preprocess import Floats
from compat.scores import Ints

MAX_SAMPLE = 1024  # done rows that are looked at
SHARPNESS = 10.0  # of the kernel exp(SHARPNESS * cosine)
_BLOCK_ROWS = 8192


def expected_change(old: Floats, done_old: Floats, done_new: Floats) -> Floats:
    """How far each row is expected to move: (N, D), (M, D), (M, D) unit rows -> (N,), in [0, 2].

    1 - cosine(old, new) of the done rows, averaged with weights that fall with the distance in the
    old space (Nadaraya-Watson). All zero when nothing is done.
    """
    if not len(done_old):
        return np.zeros(len(old), dtype=np.float32)
    step = -(-len(done_old) // MAX_SAMPLE)
    near, near_new = done_old[::step], done_new[::step]  # (M, D) twice
    change = 1 - np.einsum("md,md->m", near, near_new)  # (M,)
    expected = np.empty(len(old), dtype=np.float32)
    for start in range(0, len(old), _BLOCK_ROWS):
        weights = np.exp(SHARPNESS * (old[start : start + _BLOCK_ROWS] @ near.T - 1))  # (n, M)
        expected[start : start + _BLOCK_ROWS] = weights @ change / weights.sum(axis=1)
    return expected


def most_changed_first(old: Floats, done_old: Floats, done_new: Floats) -> Ints:
    """(N,) rows of ``old`` by `expected_change`, the largest first, ties in the order given."""
    order: Ints = np.argsort(-expected_change(old, done_old, done_new), kind="stable")
    return order
