"""Everything about one pair of models in one pass over the scores: M(query, gallery) and its top k.

Each block of scores is computed once and read by all measures, so that 20,000 queries x 100,000
items cost one matrix product and not one for each measure.
"""

from dataclasses import dataclass

import numpy as np

from compat.overlap import TopItems, no_top_items, read_top_items
from compat.preprocess import Floats
from compat.retrieval import RetrievalPerQuery, measures_of, ranks_in_row
from compat.scores import BLOCK_BYTES, Relevance, check_corresponds, score_blocks
from compat.thresholds import AcceptRates, impostor_pairs


@dataclass(frozen=True)
class Survey:
    """What one pass over one pair of models tells."""

    retrieval: RetrievalPerQuery
    top: TopItems
    accepted: AcceptRates | None  # None: no threshold was given


def survey(
    query: Floats,
    gallery: Floats,
    relevance: Relevance,
    *,
    k: int = 10,
    threshold: float | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Survey:
    """Retrieval, top k and, at a ``threshold`` of cosine, accept rates: (Q, D), (G, D).

    Equal to `retrieval_per_query`, `top_items` and `accept_rates`, each of which passes alone.

    Raises:
        UsageError: embeddings and labels do not correspond, or a row is zero or not finite.
    """
    check_corresponds(query, gallery, relevance)
    values = np.full((6, len(query)), np.nan)
    top = no_top_items(len(query), len(gallery), k, relevance.same)
    cut = np.float32(np.inf if threshold is None else threshold)
    above = genuine_above = genuine = 0
    for rows, scores in score_blocks(query, gallery, same=relevance.same, block_bytes=block_bytes):
        read_top_items(top, rows, scores)
        above += int(np.count_nonzero(scores > cut))
        for row, of_row in zip(rows, scores, strict=True):
            relevant = np.sort(of_row[relevance.of(row)])
            genuine += len(relevant)
            genuine_above += int(np.count_nonzero(relevant > cut))
            if len(relevant):
                values[:, row] = measures_of(ranks_in_row(of_row, relevant))
    accepted = None
    if threshold is not None:
        impostors = impostor_pairs(relevance)
        accepted = AcceptRates(float(cut), genuine_above, genuine, above - genuine_above, impostors)
    return Survey(RetrievalPerQuery(*values), top, accepted)
