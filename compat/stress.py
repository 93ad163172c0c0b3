"""How a family bears what the test set does not show: spoilt photos, no photos, other machines.

Curves of the cross-test against severity for the cloud model as query model, a float and an int8
artifact; what blank and foreign images score against the gallery; and whether an embedder gives the
same numbers again, in other batches and with another number of threads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compat.corruptions import CORRUPTIONS, LEVELS
from compat.embedding import Embedder
from compat.errors import UsageError
from compat.evidence import Progress, silent
from compat.preprocess import Floats, Pixels
from compat.report_parts import Estimate, Part
from compat.retrieval import retrieval_per_query
from compat.scores import BLOCK_BYTES, Relevance, score_blocks
from compat.statistics import mean_interval

MAX_QUERIES = 200  # drawn evenly: 7 corruptions x 5 severities x 3 models
N_STRANGE = 32  # images of each strange kind
BATCHES = (1, 7, 64)


class CurvePoint(Part):
    """One model, one corruption, one severity; level 0 is the clean image."""

    model: str
    corruption: str
    level: int
    hit_rate_at_10: Estimate
    map: Estimate


class StrangeInput(Part):
    """What images that show nothing of the gallery get from one model."""

    model: str
    kind: str
    images: int
    finite: bool  # every embedding has a direction
    best_score_mean: float  # cosine of the best gallery item
    real_best_score_mean: float  # the same for real queries
    share_above_real_median: float  # of them that look more certain than half of the real queries


class Determinism(Part):
    """Largest absolute difference of an embedding value when only the circumstances change."""

    model: str
    rerun: float
    batch: float  # batches of 1, 7 and 64
    threads: float | None  # one against two; None where the runtime was not opened again


class StressSection(Part):
    """On a part of the queries, drawn evenly; the counts stand with each estimate."""

    queries: int
    curves: tuple[CurvePoint, ...]
    strange: tuple[StrangeInput, ...]
    determinism: tuple[Determinism, ...]


@dataclass(frozen=True)
class StressSubject:
    """One query model under stress."""

    name: str
    embedder: Embedder
    two_threads: Embedder | None  # the same file on two threads
    pixels: Pixels  # (Q, S, S, 3) clean queries by its own recipe


def stress(
    subjects: Sequence[StressSubject],
    gallery: Floats,
    relevance_of: Callable[[Sequence[int]], Relevance],
    labels: Sequence[str],
    progress: Progress = silent,
) -> StressSection:
    """Everything above.

    Args:
        gallery: (G, D) by the cloud model.
        relevance_of: query rows -> the relevance of just those queries.
        labels: (Q,) what intervals resample whole.
    """
    rows = [int(row) for row in np.unique(np.linspace(0, len(labels) - 1, MAX_QUERIES).astype(int))]
    relevance = relevance_of(rows)
    chosen = [labels[row] for row in rows]
    curves: list[CurvePoint] = []
    strange: list[StrangeInput] = []
    determinism: list[Determinism] = []
    total = len(subjects) * (len(CORRUPTIONS) * LEVELS + 2)
    done = 0
    for subject in subjects:
        clean = subject.pixels[rows]
        for corruption, spoil in CORRUPTIONS.items():
            for level in range(LEVELS + 1):
                if level == 0 and curves and curves[-1].model == subject.name:
                    continue  # the clean point is the same for every corruption
                spoilt = clean if level == 0 else np.stack([spoil(p, level) for p in clean])
                query = _embed(subject.embedder, spoilt)
                tested = retrieval_per_query(query, gallery, relevance)
                curves.append(
                    CurvePoint(
                        model=subject.name,
                        corruption="none" if level == 0 else corruption,
                        level=level,
                        hit_rate_at_10=mean_interval(tested.hit_rate_at_10, chosen),
                        map=mean_interval(tested.average_precision, chosen),
                    )
                )
                done += 1
                progress(f"stress {subject.name}: {corruption}", done, total)
        strange += _strange(subject, _embed(subject.embedder, clean), gallery)
        determinism.append(_determinism(subject, clean[: max(BATCHES)]))
        done += 1
        progress(f"stress {subject.name}", done, total)
    return StressSection(
        queries=len(rows),
        curves=tuple(curves),
        strange=tuple(strange),
        determinism=tuple(determinism),
    )


def strange_images(size_px: int) -> Mapping[str, Pixels]:
    """Kinds of images that show nothing: name -> (n, S, S, 3) uint8, the same each time."""
    rng = np.random.default_rng(0)
    shape = (N_STRANGE, size_px, size_px, 3)
    coarse = rng.integers(0, 256, (N_STRANGE, 4, 4, 3), dtype=np.uint8)
    stripes = np.linspace(0, 8 * np.pi, size_px)[None, :, None, None]
    phase = rng.uniform(0, 2 * np.pi, (N_STRANGE, 1, 1, 3))
    wave = np.rint(127.5 * (1 + np.sin(stripes + phase))).astype(np.uint8)
    repeats = -(-size_px // 4)
    blocks = coarse.repeat(repeats, axis=1).repeat(repeats, axis=2)[:, :size_px, :size_px]
    return {
        "black": np.zeros((1, *shape[1:]), np.uint8),
        "grey": np.full((1, *shape[1:]), 128, np.uint8),
        "white": np.full((1, *shape[1:]), 255, np.uint8),
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "blocks": blocks,
        "stripes": np.broadcast_to(wave, shape).copy(),
    }


def _strange(subject: StressSubject, real: Floats, gallery: Floats) -> list[StrangeInput]:
    certain = _best_scores(real, gallery)
    found = []
    for kind, pixels in strange_images(subject.embedder.preprocess.size_px).items():
        try:
            scores = _best_scores(_embed(subject.embedder, pixels), gallery)
            finite = True
        except UsageError:  # no direction: a zero or not finite embedding cannot be searched with
            scores, finite = np.zeros(len(pixels), dtype=np.float32), False
        found.append(
            StrangeInput(
                model=subject.name,
                kind=kind,
                images=len(pixels),
                finite=finite,
                best_score_mean=float(scores.mean()),
                real_best_score_mean=float(certain.mean()),
                share_above_real_median=float((scores > np.median(certain)).mean()),
            )
        )
    return found


def _best_scores(query: Floats, gallery: Floats) -> Floats:
    """Cosine of the best gallery item: (N, D), (G, D) -> (N,)."""
    best = np.empty(len(query), dtype=np.float32)
    for rows, scores in score_blocks(query, gallery, block_bytes=BLOCK_BYTES):
        best[rows] = scores.max(axis=1)
    return best


def _determinism(subject: StressSubject, pixels: Pixels) -> Determinism:
    tensors = subject.embedder.preprocess.normalised(pixels)
    first = subject.embedder.embed(tensors)
    batches = [
        np.concatenate(
            [
                subject.embedder.embed(tensors[start : start + size])
                for start in range(0, len(tensors), size)
            ]
        )
        for size in BATCHES
    ]
    other = subject.two_threads
    return Determinism(
        model=subject.name,
        rerun=_furthest(first, subject.embedder.embed(tensors)),
        batch=max(_furthest(first, each) for each in batches),
        threads=None if other is None else _furthest(first, other.embed(tensors)),
    )


def _furthest(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).max())


def _embed(embedder: Embedder, pixels: Pixels) -> Floats:
    """(N, S, S, 3) uint8 -> (N, D)."""
    size = max(BATCHES)
    return np.concatenate(
        [
            embedder.embed(embedder.preprocess.normalised(pixels[start : start + size]))
            for start in range(0, len(pixels), size)
        ]
    )
