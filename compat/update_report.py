"""What one device met when it followed its channel: what decides whether a rollout goes on.

A device signs it (``edge.report``) with the key that it signs attestations with. It says nothing of
the device itself beside that key and the version of kinspace.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from compat.attestation import DeviceKey, Text
from compat.manifest import Version
from compat.space import Name
from compat.wire import Document, Wire

MAX_REASON = 300


class Met(Wire):
    """A release that was offered and tried, and whether it works on this device."""

    version: Version
    works: bool
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""  # why it does not


class UpdateReport(Document):
    """How the last update of one device ended. Unknown fields survive."""

    CALLED: ClassVar[str] = "an update report"
    format: Literal[1] = 1
    family: Name
    channel: Name
    met: tuple[Met, ...] = Field(min_length=1, max_length=9)
    kinspace_version: Text
    at: AwareDatetime  # by the device's clock
    device_key: DeviceKey
