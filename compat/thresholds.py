"""Verification by a threshold: TAR at a FAR, and whether a threshold survives a change of model.

A pair of a query and a gallery item is genuine when the item is relevant, impostor otherwise; it is
accepted when its score lies above the threshold. FAR = accepted impostors / impostors, TAR =
accepted genuine pairs / genuine pairs. The threshold lies `compat.scores.TIE` above an impostor's
score, so that ties count against the model. Every pair is looked at, none is sampled.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compat.errors import UsageError
from compat.preprocess import Floats
from compat.scores import BLOCK_BYTES, TIE, Relevance, check_corresponds, score_blocks

MAX_TAIL = 50_000_000  # impostor scores held while looking for a threshold, 200 MB


@dataclass(frozen=True)
class AcceptRates:
    """What one threshold does to one pair of models."""

    threshold: float  # of cosine; accepted = above it
    accepted_genuine: int
    genuine: int
    accepted_impostors: int
    impostors: int

    @property
    def tar(self) -> float:
        """True accept rate, in [0, 1], higher is better; NaN without a genuine pair."""
        return self.accepted_genuine / self.genuine if self.genuine else float("nan")

    @property
    def far(self) -> float:
        """False accept rate, in [0, 1], lower is better; NaN without an impostor pair."""
        return self.accepted_impostors / self.impostors if self.impostors else float("nan")


def threshold_at_far(
    query: Floats,
    gallery: Floats,
    relevance: Relevance,
    far: float,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> float:
    """The lowest threshold that accepts at most ``far`` of the impostor pairs: (Q, D), (G, D).

    Raises:
        UsageError: there are fewer than 1 / far impostor pairs, or so many that their tail does not
            fit in memory. Remedy: ask for a FAR that the set can show.
    """
    check_corresponds(query, gallery, relevance)
    impostors = impostor_pairs(relevance)
    if not 0 < far < 1:
        raise UsageError(f"FAR must lie between 0 and 1, got {far}")
    allowed = int(far * impostors * (1 + 1e-12))  # 0.29 * 300 is 87, not 86.99...
    if allowed < 1:
        raise UsageError(f"FAR {far:g} cannot be measured on {impostors} impostor pairs")
    if allowed >= MAX_TAIL:
        raise UsageError(f"FAR {far:g} of {impostors} pairs does not fit in memory: take fewer")
    kept = min(allowed + 1, impostors)
    tail = np.empty(0, dtype=np.float32)
    floor = np.float32(-np.inf)  # nothing at or below it can be among the `kept` best
    for _, impostor in _split_pairs(query, gallery, relevance, block_bytes):
        tail = np.concatenate([tail, impostor[impostor > floor]])
        if len(tail) > kept:
            tail = np.partition(tail, len(tail) - kept)[-kept:]
            floor = tail.min()
    return float(tail.min() + TIE)


def accept_rates(
    query: Floats,
    gallery: Floats,
    relevance: Relevance,
    threshold: float,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> AcceptRates:
    """TAR and FAR of all pairs at a given threshold: (Q, D), (G, D) of one space."""
    check_corresponds(query, gallery, relevance)
    cut = np.float32(threshold)
    accepted_genuine = genuine_pairs = accepted_impostors = 0
    for genuine, impostor in _split_pairs(query, gallery, relevance, block_bytes):
        accepted_genuine += int(np.count_nonzero(genuine > cut))
        genuine_pairs += len(genuine)
        accepted_impostors += int(np.count_nonzero(impostor > cut))
    impostors = impostor_pairs(relevance)
    return AcceptRates(float(cut), accepted_genuine, genuine_pairs, accepted_impostors, impostors)


@dataclass(frozen=True)
class ThresholdStability:
    """One threshold, chosen before a change and kept after it."""

    before: AcceptRates
    after: AcceptRates

    @property
    def far_change(self) -> float:
        """FAR after less FAR before; above 0, strangers are let in that were kept out."""
        return self.after.far - self.before.far

    @property
    def tar_change(self) -> float:
        """TAR after less TAR before; below 0, right answers are lost."""
        return self.after.tar - self.before.tar


def threshold_stability(
    old_query: Floats,
    new_query: Floats,
    gallery: Floats,
    relevance: Relevance,
    far: float,
) -> ThresholdStability:
    """Choose a threshold at ``far`` with the old query model, apply it to the new one.

    Both (Q, D) of the same query images, gallery (G, D), one space.
    """
    threshold = threshold_at_far(old_query, gallery, relevance, far)
    return ThresholdStability(
        before=accept_rates(old_query, gallery, relevance, threshold),
        after=accept_rates(new_query, gallery, relevance, threshold),
    )


def impostor_pairs(relevance: Relevance) -> int:
    """How many pairs are neither relevant nor a query's own image."""
    pairs = len(relevance.relevant.group) * len(relevance.relevant.rows)
    return pairs - _excluded(relevance)


def _split_pairs(
    query: Floats, gallery: Floats, relevance: Relevance, block_bytes: int
) -> Iterator[tuple[Floats, Floats]]:
    """Blocks of genuine scores (N,), and of impostor scores (B, G) with -inf for all else."""
    for rows, scores in score_blocks(query, gallery, same=relevance.same, block_bytes=block_bytes):
        found = [np.empty(0, dtype=np.float32)]
        for of_row, row in zip(scores, rows, strict=True):
            relevant = relevance.of(row)
            found.append(of_row[relevant])
            of_row[relevant] = -np.inf
        yield np.concatenate(found), scores


def _excluded(relevance: Relevance) -> int:
    """How many pairs are no impostors: relevant ones and a query's own images."""
    if relevance.same is None:
        return int(relevance.relevant.counts.sum())
    return sum(
        len(np.union1d(relevance.relevant.of(row), relevance.same.of(row)))
        for row in range(len(relevance.relevant.group))
    )
