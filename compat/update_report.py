"""What one device met when it followed its channel: what decides whether a rollout goes on.

A device signs it (``edge.report``) with the key that it signs attestations with. It says nothing of
the device itself beside that key and the version of kinspace.
"""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from compat.attestation import DeviceKey, Text
from compat.errors import UntrustedError
from compat.manifest import Version, canonical_json
from compat.space import Name

MAX_REASON = 300


class Met(BaseModel):
    """A release that was offered and tried, and whether it works on this device."""

    model_config = ConfigDict(frozen=True, extra="allow")

    version: Version
    works: bool
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""  # why it does not


class UpdateReport(BaseModel):
    """How the last update of one device ended. Unknown fields survive."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1] = 1
    family: Name
    channel: Name
    met: tuple[Met, ...] = Field(min_length=1, max_length=9)
    kinspace_version: Text
    at: AwareDatetime  # by the device's clock
    device_key: DeviceKey

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UntrustedError when the bytes are no report of a format that we know."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise UntrustedError(
                f"not an update report that this version reads: {error}"
            ) from error
