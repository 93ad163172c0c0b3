"""What this machine is, as far as it says: for attestations, so that equals are compared."""

import os
import platform
from pathlib import Path

from compat.attestation import MAX_TEXT, Hardware


def hardware() -> Hardware:
    """This machine; what it does not say is ``unknown`` or 0."""
    return Hardware(
        os=_text(f"{platform.system()} {platform.release()}"),
        machine=_text(platform.machine()),
        cpu_model=_text(_cpu_model()),
        cores=usable_cores(),
        memory_bytes=memory_bytes(),
    )


def class_of(found: Hardware) -> str:
    """The name of a device class: machines that differ in nothing that matters share it."""
    system = found.os.partition(" ")[0]  # a kernel update makes no other device
    memory = f"{found.memory_bytes / 2**30:.0f} GiB"
    tail = f", {found.cores} cores, {memory}"
    return f"{system} {found.machine}, {found.cpu_model}"[: MAX_TEXT - len(tail)] + tail


def usable_cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    """Linux keeps it in /proc/cpuinfo, under one name or the other."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            lines = file.read(2**16).splitlines()
    except OSError:
        lines = []
    for name in ("model name", "Hardware", "Model"):
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name and value.strip():
                return value
    return platform.processor()


def memory_bytes() -> int:
    """Of this machine; 0 when it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0


def _text(found: str) -> str:
    printable = "".join(each if each.isprintable() else " " for each in found)
    return " ".join(printable.split())[:MAX_TEXT] or "unknown"
