"""One scale for the scores of several galleries: what lets a search merge their rows.

Cosines of two pairs of models mean different things: 0.5 may be a sure find in one gallery and a
stranger in the other. Logistic regression turns a cosine into the log odds that the two images
belong together, at equal priors (Platt 1999; Brümmer and du Preez 2006, Computer Speech and
Language 20). Equal log odds are equal scores: a pair is brought onto a reference by a monotone
affine map, which keeps every order within a gallery.

Matching the impostors' scores alone, or both means, merges worse: docs/adr/0024.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from compat.errors import MissingExtraError
from compat.preprocess import Floats
from compat.report_parts import Part
from compat.scores import Ints, Relevance, check_corresponds, score_blocks

try:
    from scipy.optimize import minimize
    from scipy.special import expit
except ModuleNotFoundError as error:
    raise MissingExtraError("fitting a calibration", "server", "scipy") from error

BINS = 4096  # of cosine, from -1 to 1: what is fitted on, however many pairs there are
MAX_QUERIES = 1000  # drawn evenly, each against the whole gallery: two numbers need no more
_BLOCK_BYTES = 16 * 2**20


class Calibration(Part):
    """score = scale * cosine + shift: on the scale of the reference pair; 1 and 0: as it is."""

    scale: float = Field(default=1.0, gt=0, le=1e3)
    shift: float = Field(default=0.0, ge=-1e3, le=1e3)


@dataclass(frozen=True)
class LogOdds:
    """Log odds, in nats, that a pair is genuine at equal priors: slope * cosine + offset."""

    slope: float  # above 0
    offset: float


def log_odds(query: Floats, gallery: Floats, relevance: Relevance) -> LogOdds | None:
    """Fit the pairs of M(query, gallery): (Q, D), (G, D); None where no score tells them apart.

    Raises:
        UsageError: embeddings and labels do not correspond, or a row has no cosine.
    """
    genuine, impostor = _counts(query, gallery, relevance)  # (BINS,) each
    if not (genuine.any() and impostor.any()):
        return None
    slope, offset = _fit(genuine, impostor)
    return LogOdds(slope, offset) if slope > 0 else None


def calibration(pair: LogOdds | None, reference: LogOdds | None) -> Calibration | None:
    """What brings the cosines of ``pair`` onto those of ``reference``; None where nothing can."""
    if pair is None or reference is None:
        return None
    scale = pair.slope / reference.slope
    shift = (pair.offset - reference.offset) / reference.slope
    return Calibration(scale=scale, shift=shift) if scale <= 1e3 and abs(shift) <= 1e3 else None


def _counts(query: Floats, gallery: Floats, relevance: Relevance) -> tuple[Ints, Ints]:
    """Genuine and impostor pairs in each bin of cosine; an image and itself are neither."""
    check_corresponds(query, gallery, relevance)
    asked = np.linspace(0, len(query) - 1, min(len(query), MAX_QUERIES)).astype(np.int64)
    genuine, both = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
    blocks = score_blocks(
        query, gallery, same=relevance.same, queries=asked, block_bytes=_BLOCK_BYTES
    )
    for rows, scores in blocks:
        both += _binned(scores[scores > -np.inf])
        for row, of_row in zip(rows, scores, strict=True):
            genuine += _binned(of_row[relevance.of(row)])
    return genuine, both - genuine


def _binned(scores: Floats) -> Ints:
    """(n,) cosines -> (BINS,)."""
    places = ((scores + 1) * (BINS / 2)).astype(np.int64)
    counted: Ints = np.bincount(places.clip(0, BINS - 1), minlength=BINS)
    return counted


def _fit(genuine: Ints, impostor: Ints) -> tuple[float, float]:
    """Slope and offset of the most likely log odds; each side weighs one half.

    Targets are drawn in by one pair a side (Platt), so that separable sides have a finite slope.
    """
    cosines = (np.arange(BINS) + 0.5) * (2 / BINS) - 1  # (BINS,)
    total, others = int(genuine.sum()), int(impostor.sum())
    weights = genuine / (2 * total), impostor / (2 * others)  # (BINS,) each
    targets = (total + 1) / (total + 2), 1 / (others + 2)

    def loss(line: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Cross-entropy in nats, and its gradient: (2,) -> (), (2,)."""
        odds = line[0] * cosines + line[1]  # (BINS,)
        nats, slope = 0.0, np.zeros(2)
        for weight, target in zip(weights, targets, strict=True):
            nats += float(weight @ (np.logaddexp(0, odds) - target * odds))
            error = weight * (expit(odds) - target)
            slope += (error @ cosines, error.sum())
        return nats, slope

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    return float(found.x[0]), float(found.x[1])
