"""A device's own random name. It decides who is in a staged rollout, and never leaves the home."""

import re
import secrets
from pathlib import Path

from compat.errors import UsageError
from compat.files import read_bounded, write_atomic

ID = re.compile(r"[0-9a-f]{32}")


def device_id(home: Path) -> str:
    """128 random bits in hex; made when there are none, or when the disk spoilt them.

    One caller at a time. Raises UsageError when it cannot be kept.
    """
    path = home / "device_id"
    try:
        found = read_bounded(path, 64).decode(errors="replace").strip()
    except UsageError:  # missing, or no file of ours
        found = ""
    if not ID.fullmatch(found):
        found = secrets.token_hex(16)
        write_atomic(path, f"{found}\n".encode(), mode=0o600)
    return found
