"""Latencies that can be compared: files take turns in one process, each a ratio to the same one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge.runtimes import Runtime

ROUNDS, RUNS = 40, 10


@dataclass(frozen=True)
class Timed:
    """One image on one thread."""

    ms: float  # median over all rounds, on the machine that it ran on
    ratio: float  # median over the rounds of its time to the reference's in the same round
    low: float  # quartiles of that ratio
    high: float


def time_together(runtimes: Mapping[str, Runtime], reference: str) -> dict[str, Timed]:
    """Each runtime a few images in turn, `ROUNDS` times; what slows one round slows all in it.

    Of the runs in a round the fastest counts: the others were interrupted.
    """
    rng = np.random.default_rng(0)
    images = {
        name: rng.normal(size=(1, each.size_px, each.size_px, 3)).astype(np.float32)
        for name, each in runtimes.items()
    }
    for name, each in runtimes.items():  # warm up
        each.run(images[name])
    taken: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(ROUNDS):
        for name, each in runtimes.items():
            taken[name].append(min(_seconds(each, images[name]) for _ in range(RUNS)))
    base = np.array(taken[reference])
    found = {}
    for name, seconds in taken.items():
        low, ratio, high = np.percentile(np.array(seconds) / base, [25, 50, 75])
        ms = float(np.median(seconds)) * 1e3
        found[name] = Timed(ms, float(ratio), float(low), float(high))
    return found


def _seconds(runtime: Runtime, image: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> float:
    started = time.perf_counter()
    runtime.run(image)
    return time.perf_counter() - started
