"""How far quantised embeddings moved, in units that retrieval feels.

A cosine of 0.999 is nothing where classes are far apart and everything where they are close. So the
distance from the reference embedding is divided by what it takes to change an answer (the margin),
or by how much embeddings differ at all (the spread about their mean).
"""

import numpy as np

from compat.embedding import unit_rows
from compat.errors import UsageError
from compat.preprocess import Floats
from compat.retrieval import PerQuery
from compat.scores import BLOCK_BYTES, Relevance, check_corresponds, score_blocks

MIN_MARGIN = 1e-3  # of cosine: below it the reference itself is undecided


def margins(
    reference: Floats, gallery: Floats, relevance: Relevance, *, block_bytes: int = BLOCK_BYTES
) -> PerQuery:
    """Best relevant cosine less best irrelevant one: (Q, D), (G, D) -> (Q,), each in [-2, 2].

    Above 0 the reference answers right. NaN where the query is lone or everything is relevant.
    """
    check_corresponds(reference, gallery, relevance)
    found = np.full(len(reference), np.nan)
    for rows, scores in score_blocks(
        reference, gallery, same=relevance.same, block_bytes=block_bytes
    ):
        for place, row in enumerate(rows):
            relevant = relevance.of(row)
            if not len(relevant):
                continue
            right = float(scores[place, relevant].max())
            scores[place, relevant] = -np.inf
            wrong = float(scores[place].max())
            if np.isfinite(wrong):
                found[row] = right - wrong
    return found


def margin_normalised_error(measured: Floats, reference: Floats, margin: PerQuery) -> PerQuery:
    """||q - ref|| / max(|margin|, 0.001), lower is better: (Q, D), (Q, D), (Q,) -> (Q,).

    Moving a unit query by e changes a difference of two cosines by at most 2 e, so below 0.5 no
    answer can have changed. NaN where the margin is.
    """
    return _distance(measured, reference) / np.maximum(np.abs(margin), MIN_MARGIN)


def centred_error(measured: Floats, reference: Floats) -> PerQuery:
    """||q - ref|| / ||ref - mean of refs||, lower is better: (Q, D), (Q, D) -> (Q,).

    In a narrow cone it is large though every cosine is near 1. NaN where a reference is the mean.
    """
    centre = unit_rows(reference, "reference").astype(np.float64)
    spread = np.linalg.norm(centre - centre.mean(axis=0), axis=1)  # (Q,)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = _distance(measured, reference) / spread
    return np.where(spread > 1e-9, error, np.nan)


def _distance(measured: Floats, reference: Floats) -> PerQuery:
    if measured.shape != reference.shape:
        raise UsageError(f"rows do not correspond: {measured.shape} against {reference.shape}")
    ours = unit_rows(measured, "measured").astype(np.float64)
    distance: PerQuery = np.linalg.norm(ours - unit_rows(reference, "reference"), axis=1)
    return distance
