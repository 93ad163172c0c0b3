"""What a device was told, what it did and what it tells: values, and their files."""

from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from compat.errors import CorruptError
from compat.files import read_bounded
from compat.golden import GoldenCheck
from compat.manifest import Runtime, Version
from compat.space import Name
from compat.update_report import Met
from edge.acquire import Fetched
from edge.budget import Budget
from edge.slots import MAX_STATE_BYTES, Slot

RecordT = TypeVar("RecordT", bound=BaseModel)


class DeviceConfig(BaseModel):
    """What `Device.init` was told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: str
    family: Name
    member: Name | None = None  # None: the best verified one that fits this device
    runtime: Runtime | None = None  # None: whichever is installed
    budget: Budget = Budget()
    channel: Name = "stable"


class UpdateOutcome(BaseModel):
    """What an update did."""

    model_config = ConfigDict(frozen=True)

    changed: bool
    version: Version
    member: Name
    artifact: str  # runtime/precision
    check: GoldenCheck
    latency_ms: float | None = None  # measured here; None: no budget asked for it
    refused: tuple[str, ...] = ()  # artifacts that were tried first, and why they do not run here
    fetched_bytes: int = 0  # for the artifact
    fetched_as: str | None = None  # "whole", "here", or the deltas that led to it
    golden_bytes: int = 0  # for its golden set; metadata comes on top

    @classmethod
    def of(
        cls,
        slot: Slot,
        *,
        changed: bool,
        refused: tuple[str, ...] = (),
        fetched: Fetched | None = None,
        golden: Fetched | None = None,
    ) -> Self:
        return cls(
            changed=changed,
            version=slot.version,
            member=slot.member,
            artifact=slot.artifact.label,
            check=slot.check,
            latency_ms=slot.latency_ms,
            refused=refused,
            fetched_bytes=fetched.n_bytes if fetched else 0,
            fetched_as=fetched.way if fetched else None,
            golden_bytes=golden.n_bytes if golden else 0,
        )


class LastUpdate(BaseModel):
    """How the last update ended."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    error: str | None = None  # None: it succeeded
    exit_code: int = 0
    met: tuple[Met, ...] = ()  # releases that were tried, the newest first
    latest: datetime | None = None  # the latest moment of one that succeeded: the past, for sure


class Status(BaseModel):
    """What a device is, runs and last met."""

    model_config = ConfigDict(frozen=True)

    config: DeviceConfig
    current: Slot | None
    previous: Slot | None
    last_update: LastUpdate | None


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """The record in ``path``.

    Raises:
        CorruptError: the disk spoilt it. Remedy: as the message says.
        UsageError: it cannot be read.
    """
    try:
        return kind.model_validate_json(read_bounded(path, MAX_STATE_BYTES))
    except ValidationError as error:
        raise CorruptError(f"{path} is damaged: remove it, then kinspace device init") from error
