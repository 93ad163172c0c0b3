"""Time the report's measures at the size of a real gallery, and against other ways to get them.

``python -m benchmarks.measure_speed`` measures 20,000 queries in a gallery of 100,000 embeddings of
128 dimensions, states the peak memory of its process, then compares at a size that the others bear.
"""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import typer
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from benchmarks.tables import publish_table
from compat.embedding_error import margin_normalised_error, margins
from compat.overlap import overlap_at_k, rank_biased_overlap, top_items
from compat.preprocess import Floats
from compat.retrieval import retrieval_per_query
from compat.scores import Ints, Relevance, relevance
from compat.thresholds import accept_rates, threshold_at_far

DIM = 128
PER_CLASS = 20  # gallery items of one class
SPREAD = 2.2  # of a class about its centre, in spreads of the centres
FAR = 1e-3
COMPARED = (2_000, 10_000)


@dataclass(frozen=True)
class Drawn:
    """(Q, D) and (G, D) with (Q,) and (G,) labels."""

    query: Floats
    gallery: Floats
    query_labels: Ints
    gallery_labels: Ints

    @property
    def relevance(self) -> Relevance:
        return relevance(self.query_labels, self.gallery_labels)


def draw(queries: int, gallery: int) -> Drawn:
    """Classes as clouds about random centres."""
    rng = np.random.default_rng(0)
    classes = gallery // PER_CLASS
    centres = rng.normal(size=(classes, DIM)).astype(np.float32)

    def side(labels: Ints) -> Floats:
        noise = rng.standard_normal((len(labels), DIM), dtype=np.float32)
        rows = centres[labels] + np.float32(SPREAD) * noise
        unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    query_labels = rng.integers(classes, size=queries)
    gallery_labels = np.repeat(np.arange(classes), PER_CLASS)
    return Drawn(side(query_labels), side(gallery_labels), query_labels, gallery_labels)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of all cores: on a busy machine the second says more."""

    wall: float
    cores: float


def _cost(step: Callable[[], object]) -> Cost:
    wall, cores = time.perf_counter(), time.process_time()
    step()
    return Cost(time.perf_counter() - wall, time.process_time() - cores)


def our_measures(drawn: Drawn) -> list[tuple[str, Cost]]:
    """Every measure of a report that looks at scores, with what it costs."""
    query, gallery, both = drawn.query, drawn.gallery, drawn.relevance
    other = (query + np.float32(0.02)).astype(np.float32)
    steps: list[tuple[str, Callable[[], object]]] = [
        (
            "hit rates, recall, mAP, R-precision, mAP@R",
            lambda: retrieval_per_query(query, gallery, both),
        ),
        (
            "overlap@10 and rank-biased overlap",
            lambda: _overlaps(top_items(query, gallery, 10), top_items(other, gallery, 10)),
        ),
        ("threshold at a false accept rate", lambda: threshold_at_far(query, gallery, both, FAR)),
        ("accept rates at a threshold", lambda: accept_rates(query, gallery, both, 0.5)),
        (
            "margin-normalised error",
            lambda: margin_normalised_error(other, query, margins(query, gallery, both)),
        ),
    ]
    return [(name, _cost(step)) for name, step in steps]


def _overlaps(a: object, b: object) -> None:
    overlap_at_k(a, b)  # type: ignore[arg-type]
    rank_biased_overlap(a, b)  # type: ignore[arg-type]


def by_argsort(drawn: Drawn) -> float:
    """mAP by sorting every row of scores: what a notebook does."""
    order = np.argsort(-(drawn.query @ drawn.gallery.T), axis=1)  # (Q, G)
    hits = drawn.gallery_labels[order] == drawn.query_labels[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean())


def by_metric_learning(drawn: Drawn) -> float:
    """mAP, mAP@R, R-precision and precision@1 by pytorch-metric-learning; returns mAP."""
    calculator = AccuracyCalculator(
        include=(
            "precision_at_1",
            "r_precision",
            "mean_average_precision",
            "mean_average_precision_at_r",
        ),
        k=len(drawn.gallery),
        knn_func=CustomKNN(CosineSimilarity(), batch_size=256),
        device=torch.device("cpu"),
    )
    found = calculator.get_accuracy(
        torch.from_numpy(drawn.query),
        torch.from_numpy(drawn.query_labels),
        torch.from_numpy(drawn.gallery),
        torch.from_numpy(drawn.gallery_labels),
        ref_includes_query=False,
    )
    return float(found["mean_average_precision"])


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux


def compared() -> list[dict[str, object]]:
    """Three ways to mean average precision at one size, in one run."""
    drawn = draw(*COMPARED)
    found: dict[str, float] = {}

    def ours() -> None:
        tested = retrieval_per_query(drawn.query, drawn.gallery, drawn.relevance)
        found["kinspace, six measures"] = float(np.nanmean(tested.average_precision))

    def argsort() -> None:
        found["numpy argsort, mAP alone"] = by_argsort(drawn)

    def metric_learning() -> None:
        found["pytorch-metric-learning, four measures"] = by_metric_learning(drawn)

    costs = [_cost(step) for step in (ours, argsort, metric_learning)]
    return [
        {
            "what": name,
            "size": _size(*COMPARED),
            "seconds": f"{taken.wall:.2f}",
            "core seconds": f"{taken.cores:.2f}",
            "core seconds, times kinspace": f"{taken.cores / costs[0].cores:.1f}",
            "mAP": f"{value:.4f}",
        }
        for (name, value), taken in zip(found.items(), costs, strict=True)
    ]


def _size(queries: int, gallery: int) -> str:
    return f"{queries:,} x {gallery:,} x {DIM}"


def main(
    queries: Annotated[int, typer.Option(min=100)] = 20_000,
    gallery: Annotated[int, typer.Option(min=1000)] = 100_000,
) -> None:
    """Time every measure; print and write the table."""
    measured = our_measures(draw(queries, gallery))
    peak = _peak_gib()
    size = _size(queries, gallery)
    total = Cost(sum(each.wall for _, each in measured), sum(each.cores for _, each in measured))
    rows: list[dict[str, object]] = [
        {
            "what": name,
            "size": size,
            "seconds": f"{taken.wall:.1f}",
            "core seconds": f"{taken.cores:.1f}",
            "core seconds, times kinspace": None,
            "mAP": None,
        }
        for name, taken in (*measured, ("all of them", total))
    ]
    publish_table(
        "measure_speed",
        "How fast the report's measures are",
        [*rows, *compared()],
        notes=(
            f"{torch.get_num_threads()} threads, load of the machine at the end "
            f"{os.getloadavg()[0]:.1f}; peak memory of the process at {size}: "
            f"{peak:.2f} GiB, the imports of every library below included.",
        ),
    )


if __name__ == "__main__":
    typer.run(main)
