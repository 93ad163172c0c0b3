"""When the failures that devices report are too many: a rollout must not wait for a person to look.

The share is judged by the lower end of its Wilson interval, not by itself: one failure among two
reports is no 50%. A check is run again and again while reports come in, so its level is strict.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from compat.manifest import HaltRule

LEVEL = 0.99  # two-sided


@dataclass(frozen=True)
class Failures:
    """Devices that met a release, each counted once, and what a rule says of them."""

    failed: int
    devices: int
    low: float  # of the share's interval
    high: float
    is_too_many: bool

    @property
    def share(self) -> float:
        return self.failed / self.devices if self.devices else math.nan


def judge(rule: HaltRule, failed: int, devices: int) -> Failures:
    """Too many when even the low end of the share's interval is above what the rule allows."""
    low, high = wilson_interval(failed, devices)
    enough = devices >= rule.min_devices
    return Failures(failed, devices, low, high, enough and low > rule.failure_share)


def wilson_interval(hits: int, counted: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share (Wilson 1927, eq. without continuity correction); (0, 1) of nothing."""
    if not 0 <= hits <= counted:
        raise ValueError(f"{hits} of {counted} is no share")
    if counted == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = hits / counted
    centre = share + z2 / (2 * counted)
    half = math.sqrt(z2 * (share * (1 - share) / counted + z2 / (4 * counted**2)))
    scale = 1 + z2 / counted
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
