"""How long all measures take at scale, and against what people use instead.

    python -m benchmarks.measure_speed

20,000 queries x 100,000 gallery items x 128 numbers: retrieval, top ten and accept rates of one
pair of models, in one pass, exact (`compat.survey`). At a smaller size, in the same run and on the
same data: pytorch-metric-learning's AccuracyCalculator and a plain argsort in numpy, which hold or
sort everything. Writes benchmarks/results/measure_speed.md and .json. A ratio, not a test.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from benchmarks.data.cache import write_atomic
from compat.preprocess import Floats
from compat.scores import Ints, relevance
from compat.survey import survey
from compat.thresholds import threshold_at_far
from compat.wire import canonical_json

RESULTS = Path(__file__).parent / "results"
DIM, CLASSES = 128, 5_000
LARGE = (20_000, 100_000)
SMALL = (2_000, 20_000)


def drawn(queries: int, items: int) -> tuple[Floats, Floats, Ints, Ints]:
    """Classes around centres: (Q, D), (G, D) and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    sides, labels = [], []
    for n in (queries, items):
        label = rng.integers(CLASSES, size=n)
        sides.append((centres[label] + 1.3 * rng.normal(size=(n, DIM))).astype(np.float32))
        labels.append(label.astype(np.int64))
    return sides[0], sides[1], labels[0], labels[1]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ours(queries: int, items: int) -> float:
    query, gallery, query_labels, gallery_labels = drawn(queries, items)
    known = relevance(query_labels, gallery_labels)
    return seconds(lambda: survey(query, gallery, known, threshold=0.5))


def threshold(queries: int, items: int) -> float:
    query, gallery, query_labels, gallery_labels = drawn(queries, items)
    known = relevance(query_labels, gallery_labels)
    return seconds(lambda: threshold_at_far(query, gallery, known, 1e-4))


def by_argsort(queries: int, items: int) -> float:
    """Sort every row, look the labels up: hit_rate@10 and average precision, nothing else."""
    query, gallery, query_labels, gallery_labels = drawn(queries, items)

    def work() -> float:
        unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
        order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
        hits = gallery_labels[order] == query_labels[:, None]
        places = np.arange(1, items + 1)
        precision = (hits.cumsum(1) / places * hits).sum(1) / hits.sum(1).clip(1)
        return float(hits[:, :10].any(1).mean() + precision.mean())

    return seconds(work)


def by_library(queries: int, items: int) -> float:
    query, gallery, query_labels, gallery_labels = drawn(queries, items)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    )
    arguments = [torch.from_numpy(a) for a in (query, query_labels, gallery, gallery_labels)]
    return seconds(lambda: calculator.get_accuracy(*arguments, ref_includes_query=False))


def main() -> None:
    large = ours(*LARGE)
    chosen = threshold(*LARGE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, before the others
    small = {
        "ours": ours(*SMALL),
        "argsort": by_argsort(*SMALL),
        "pytorch-metric-learning": by_library(*SMALL),
    }
    lines = [
        "| what | size | seconds | times ours |",
        "|---|---|---|---|",
        f"| all measures, one pass | {LARGE[0]:,} x {LARGE[1]:,} x {DIM} | {large:.1f} | |",
        f"| a threshold at FAR 1e-4, once a family | the same | {chosen:.1f} | |",
    ]
    lines += [
        f"| {name} | {SMALL[0]:,} x {SMALL[1]:,} x {DIM} | {s:.2f} | {s / small['ours']:.1f} |"
        for name, s in small.items()
    ]
    table = "\n".join(lines) + f"\n\nPeak memory at the large size: {peak:.1f} GiB.\n"
    found = {"large_seconds": round(large, 1), "threshold_seconds": round(chosen, 1),
             "peak_gib": round(peak, 2),
             "small_seconds": {name: round(s, 3) for name, s in small.items()}}  # fmt: skip
    write_atomic(RESULTS / "measure_speed.json", canonical_json(found))
    write_atomic(RESULTS / "measure_speed.md", table.encode())
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
