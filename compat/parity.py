"""Parity: the same weights in two backends, image by image. It explains; it does not admit alone.

A high mean cosine can hide a broken export: embeddings that lie in a narrow cone have cosines near
1 whatever they show. So the cosine is also taken after the reference's mean embedding is taken away
from both sides.
"""

import numpy as np

from compat.embedding import cosine_rows, unit_rows
from compat.preprocess import Floats
from compat.report import Parity

MIN_SPREAD = 1e-6  # L2 distance from the mean below which an embedding points nowhere


def measure_parity(measured: Floats, reference: Floats) -> Parity:
    """Compare corresponding rows: (N, D), (N, D); 1 is equal.

    Raises:
        UsageError: shapes differ, or a row is zero or not finite.
    """
    cosines = cosine_rows(measured, reference)
    return Parity(
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean(dtype=np.float64)),
        centred_cosine_mean=_centred_cosine_mean(measured, reference),
    )


def _centred_cosine_mean(measured: Floats, reference: Floats) -> float:
    """Mean cosine about the reference's mean; a row with no spread on one side counts 0.

    Both sides lose the same mean, so that a constant offset of one side is seen.
    """
    ours = unit_rows(measured, "measured").astype(np.float64)
    theirs = unit_rows(reference, "reference").astype(np.float64)
    middle = theirs.mean(axis=0)  # (D,)
    ours, theirs = ours - middle, theirs - middle
    sizes = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)  # (N,), (N,)
    spread = (sizes[0] > MIN_SPREAD) & (sizes[1] > MIN_SPREAD)
    products = np.einsum("nd,nd->n", ours, theirs)
    cosines = np.zeros(len(products))
    np.divide(products, sizes[0] * sizes[1], out=cosines, where=spread)
    return float(cosines.clip(-1, 1).mean())


def mean_pairwise_cosine(embeddings: Floats) -> float:
    """How narrow the cone is: mean cosine of all pairs of (N, D), N >= 2; 1 = collapsed.

    From the mean embedding m: N^2 ||m||^2 is the sum over all ordered pairs and the N of each with
    itself.
    """
    rows = unit_rows(embeddings, "embeddings").astype(np.float64)
    total = float(np.sum(np.square(rows.sum(axis=0))))
    n = len(rows)
    return (total - float(np.sum(np.square(rows)))) / (n * (n - 1))
