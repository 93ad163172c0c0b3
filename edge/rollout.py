"""Which releases of a channel are meant for this device: a decision without network, disk or clock.

The newest rollout that the device is in comes first, the settled release last; the device takes the
first that works here. Whether it is in is a hash of its own secret id, so that nobody has to know
devices, and who is in at 5% is still in at 50%. Why: docs/adr/0012.
"""

import hashlib
from dataclasses import dataclass

from compat.manifest import Channel, Requirements, Rollout, Runtime


@dataclass(frozen=True)
class DeviceFacts:
    """What a rollout may ask of a device."""

    device_id: str
    client: str  # version of kinspace here
    runtimes: tuple[Runtime, ...]
    system: str  # platform.system()
    memory_bytes: int  # 0: unknown


def offers(channel: Channel, facts: DeviceFacts, *, running: str | None) -> tuple[str, ...]:
    """Versions for this device, in the order to try them; the last one is the settled release.

    Args:
        running: the version that runs here: a paused rollout keeps those that have taken it.
    """
    chosen = [each.version for each in channel.rollouts if _is_in(channel, each, facts, running)]
    return (*dict.fromkeys([*chosen, channel.version]),)


def place(device_id: str, family: str, channel: str, version: str) -> float:
    """Where a device stands in a rollout, uniform in [0, 100): in when below its percent.

    Another version shuffles anew: the same devices are not first each time.
    """
    text = "\n".join((device_id, family, channel, version))  # a newline is in none of them
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") * 100 / 2**48


def unmet(requires: Requirements, facts: DeviceFacts) -> tuple[str, ...]:
    """What the device lacks, in words; empty when nothing."""
    found = []
    if _numbers(facts.client) < _numbers(requires.min_client):
        found.append(f"kinspace {requires.min_client} (this is {facts.client})")
    if requires.runtimes and not set(requires.runtimes) & set(facts.runtimes):
        found.append(f"one of the runtimes {', '.join(requires.runtimes)}")
    if requires.systems and facts.system not in requires.systems:
        found.append(f"one of the systems {', '.join(requires.systems)}")
    if facts.memory_bytes < requires.min_memory_bytes:
        found.append(f"{requires.min_memory_bytes} bytes of memory")
    found += [f"{name}, which this kinspace does not know" for name in requires.model_extra or ()]
    return tuple(found)


def _is_in(channel: Channel, rollout: Rollout, facts: DeviceFacts, running: str | None) -> bool:
    if unmet(rollout.requires, facts):
        return False
    if rollout.paused and running != rollout.version:
        return False
    where = place(facts.device_id, channel.family, channel.channel, rollout.version)
    return where < rollout.percent


def _numbers(version: str) -> tuple[int, ...]:
    """1.2.3 and what follows it (rc1, .dev2, +local) -> (1, 2, 3)."""
    numbers = []
    for part in version.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
        if digits != part:
            break
    return tuple(numbers)
