"""How scores are distributed: pairs that belong together, and pairs that do not, in bins of cosine.

What a threshold parts. Counted on at most `MAX_QUERIES` queries, drawn evenly, against the whole
gallery: enough for a picture, and a small part of what the measures cost.
"""

import numpy as np
import numpy.typing as npt

from compat.preprocess import Floats
from compat.report_parts import Part
from compat.scores import Ints, Relevance, check_corresponds, score_blocks

BINS = 80  # of width 0.025, from cosine -1 to 1
MAX_QUERIES = 500
_BLOCK_BYTES = 16 * 2**20  # of scores at once; the places of the bins take twice as much


class ScoreHistogram(Part):
    """Counts per bin of cosine, `BINS` of equal width from -1 to 1; a pair on an edge goes up."""

    queries: int
    genuine: tuple[int, ...]  # relevant pairs
    impostor: tuple[int, ...]  # the others; an image and itself are neither


def score_histogram(
    query: Floats, gallery: Floats, relevance: Relevance, *, block_bytes: int = _BLOCK_BYTES
) -> ScoreHistogram:
    """Count the scores of M(query, gallery): (Q, D), (G, D) of one space.

    Raises:
        UsageError: embeddings and labels do not correspond, or a row has no cosine. Remedy: pass
            the relevance of exactly these rows.
    """
    check_corresponds(query, gallery, relevance)
    rows = np.linspace(0, len(query) - 1, min(len(query), MAX_QUERIES)).astype(np.int64)
    genuine, both = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
    blocks = score_blocks(
        query, gallery, same=relevance.same, queries=rows, block_bytes=block_bytes
    )
    for numbers, scores in blocks:
        both += _counts(scores[scores > -np.inf])  # (n,)
        for number, of_row in zip(numbers, scores, strict=True):
            genuine += _counts(of_row[relevance.of(number)])
    return ScoreHistogram(
        queries=len(rows),
        genuine=tuple(int(count) for count in genuine),
        impostor=tuple(int(count) for count in both - genuine),
    )


def _counts(scores: Floats) -> Ints:
    """(n,) cosines -> (BINS,)."""
    places: npt.NDArray[np.int64] = ((scores + 1) * (BINS / 2)).astype(np.int64)
    return np.bincount(places.clip(0, BINS - 1), minlength=BINS)
