"""Does the evaluator cry wolf, and does it find what it says it can?

    python -m benchmarks.false_alarms

Draws hits of two models with hard and easy classes (synthetic: the truth must be known) and asks
two questions of the rule "the 95% interval of the paired difference excludes 0". A/A: equally good
models on resampled test sets; how often does it see a difference? Power: a model that truly loses a
point; how often does it see that, against the power which `smallest_resolvable_difference`
announces? Writes benchmarks/results/false_alarms.md and .json; exit 1 when a rate is outside what
chance allows.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import stats

from benchmarks.data.cache import write_atomic
from compat.statistics import paired_difference_interval, smallest_resolvable_difference
from compat.terminal import STDERR
from compat.wire import canonical_json

RESULTS = Path(__file__).parent / "results"
COMPARISONS = 200
CLASSES, QUERIES = 300, 8  # of a test set; queries of a class err together
LOSS = 0.01
POWER = 0.8
CONFIDENCE = 0.99  # of the binomial interval that a rate must lie in
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Count:
    """How often of how many, and what was expected."""

    seen: int
    of: int
    expected: float

    @property
    def within_chance(self) -> bool:
        low, high = stats.binom.interval(CONFIDENCE, self.of, self.expected)
        return bool(low <= self.seen <= high)


def drawn_set(rng: np.random.Generator, loss: float) -> tuple[Values, Values, list[int]]:
    """hit_rate of two models on the same queries: (Q,), (Q,), class of each query.

    A class has a difficulty that both models share and a leaning towards one of them, so queries
    of a class are not independent; on average the second model is worse by ``loss``.
    """
    difficulty = 0.15 + 0.7 * rng.beta(4, 1.2, CLASSES)  # room on both sides: no chance is cut off
    leaning = rng.normal(scale=0.03, size=CLASSES).clip(-0.1, 0.1)
    clusters = np.repeat(np.arange(CLASSES), QUERIES)
    shared = rng.random(len(clusters))  # the same photo is hard for both
    own, is_own = rng.random((2, len(clusters))), rng.random((2, len(clusters))) < 0.15
    draws = np.where(is_own, own, shared)
    chances = difficulty[clusters] + np.outer([1, -1], leaning[clusters])
    chances[1] -= loss
    hits = (draws < chances).astype(np.float64)
    return hits[0], hits[1], clusters.tolist()


def alarms(loss: float, seed: int) -> tuple[Count, float]:
    """How often the interval excludes 0, and the power expected on average."""
    seen, powers = 0, []
    for turn in track(range(COMPARISONS), f"loss {loss:g}", console=STDERR, transient=True):
        a, b, clusters = drawn_set(np.random.default_rng((seed, turn)), loss)
        interval = paired_difference_interval(b, a, clusters)
        seen += interval.high < 0 or interval.low > 0
        powers.append(power_at(loss, smallest_resolvable_difference(b, a, clusters, power=POWER)))
    return Count(seen, COMPARISONS, float(np.mean(powers))), float(np.mean(powers))


def power_at(loss: float, resolvable: float) -> float:
    """Chance that a true ``loss`` shows at 5% two-sided, from what shows with `POWER`."""
    z = stats.norm.ppf(0.975)
    error = resolvable / (z + stats.norm.ppf(POWER))
    return float(stats.norm.sf(z - loss / error) + stats.norm.cdf(-z - loss / error))


def main() -> None:
    same, _ = alarms(0.0, seed=1)
    point, _ = alarms(LOSS, seed=2)
    larger, _ = alarms(3 * LOSS, seed=3)
    named = {"A/A, no difference": same, "one point lost": point, "three points lost": larger}
    rows = [
        {"case": case, "seen": c.seen, "of": c.of, "expected": round(c.expected, 4),
         "within_chance": c.within_chance}
        for case, c in named.items()
    ]  # fmt: skip
    lines = ["| case | seen | expected rate | within chance (99%) |", "|---|---|---|---|"]
    lines += [
        f"| {case} | {c.seen} of {c.of} ({c.seen / c.of:.0%}) | {c.expected:.1%} | "
        f"{'yes' if c.within_chance else 'NO'} |"
        for case, c in named.items()
    ]
    table = "\n".join(lines) + "\n"
    write_atomic(RESULTS / "false_alarms.json", canonical_json({"rows": rows}))
    write_atomic(RESULTS / "false_alarms.md", table.encode())
    sys.stdout.write(table)
    if not all(c.within_chance for c in named.values()):
        sys.exit("the evaluator does not do what it says")


if __name__ == "__main__":
    main()
