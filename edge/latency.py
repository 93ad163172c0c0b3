"""How long the admitted embedder takes here, in the process that will run it."""

import time

import numpy as np

from compat.embedding import Embedder
from compat.preprocess import Floats

_WARM_UP, _ROUNDS, _RUNS = 3, 3, 15


def median_latency_ms(embedder: Embedder) -> float:
    """Tensor -> embedding, batch 1: the least of three medians, so that a busy moment is not it."""
    size_px = embedder.preprocess.size_px
    noise = np.random.default_rng(0).uniform(-1, 1, (1, size_px, size_px, 3))
    tensor = noise.astype(np.float32)
    for _ in range(_WARM_UP):
        embedder.embed(tensor)
    return min(_median_ms(embedder, tensor) for _ in range(_ROUNDS))


def _median_ms(embedder: Embedder, tensor: Floats) -> float:
    times_ms = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        embedder.embed(tensor)
        times_ms.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times_ms))
