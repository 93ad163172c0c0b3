"""An attestation: what one device measured of the artifact that it runs, and when it fails.

A device runs the golden set and a timing on its own runtime and delegate (``edge.attest``) and
signs the numbers (``edge.envelope``). `compat.device_evidence` draws many together.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, model_validator

from compat.golden import PIXELS_MAX_ERROR
from compat.manifest import Digest, Precision, Runtime, Version
from compat.space import Name
from compat.wire import Document, Wire

MAX_ATTESTATION_BYTES = 2**16
MAX_TEXT = 120
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f]+$")]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Milliseconds = Annotated[float, Field(gt=0)]


class DeviceKey(Wire):
    """The public half of the key that a device signs with, as securesystemslib spells it."""

    keytype: Literal["ed25519", "ecdsa", "rsa"]
    scheme: str = Field(max_length=64)
    public: str = Field(max_length=8192)


class Hardware(Wire):
    """What the device says that it is."""

    os: Text
    machine: Text
    cpu_model: Text
    cores: int = Field(ge=1)  # that this process may use
    memory_bytes: int = Field(ge=0)  # 0: the system does not say


class AttestedTiming(Wire):
    """Batch 1 in a fresh process, tensor -> embedding; decoding and resizing are not in it."""

    threads: int = Field(ge=1)
    runs: int = Field(ge=1)
    latency_ms_p50: Milliseconds
    latency_ms_p95: Milliseconds
    resident_bytes: int = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.latency_ms_p50 > self.latency_ms_p95:
            raise ValueError("the median latency is above the 95th percentile")
        return self


class GoldenResult(Wire):
    """The golden images on this device, one by one."""

    digest: Digest  # of the golden set
    images: int = Field(ge=1)
    refused: int = Field(ge=0)  # that it cannot decode, or whose embedding has no direction
    pixels_max_error: int = Field(ge=0, le=255)  # of 255, over those not refused
    cosine_min: Cosine | None  # None: every image was refused
    cosine_mean: Cosine | None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.refused > self.images:
            raise ValueError(f"{self.refused} of {self.images} images refused")
        for cosine in (self.cosine_min, self.cosine_mean):
            if (cosine is None) != (self.refused == self.images):
                raise ValueError("a cosine is given exactly when an image was embedded")
        return self


class Attestation(Document):
    """One device's measurement of one artifact."""

    CALLED: ClassVar[str] = "an attestation"
    format: Literal[1] = 1
    family: Name
    release: Version
    member: Name
    artifact: Digest
    runtime: Runtime
    runtime_version: Text
    precision: Precision
    provider: Text  # who computes: the execution provider, or the delegate
    device_class: Text
    hardware: Hardware
    golden: GoldenResult
    one_thread: AttestedTiming
    all_cores: AttestedTiming
    kinspace_version: Text
    measured_at: AwareDatetime  # by the device's clock
    device_key: DeviceKey


class Attested(NamedTuple):
    """An attestation whose signature was verified, and the id of the key that made it."""

    attestation: Attestation
    key_id: str  # 64 hex digits: one device, as far as its key stays its own
    source: str  # how errors and the report call the file


class Expected(NamedTuple):
    """An artifact of the report that attestations may speak of."""

    member: str
    runtime: Runtime
    precision: Precision
    digest: str
    admission_cosine: float


def failure_of(attestation: Attestation, admission_cosine: float) -> str | None:
    """Why a device fails its golden images, in words; None when it does not."""
    golden = attestation.golden
    if golden.refused or golden.cosine_min is None:
        return f"{golden.refused} of {golden.images} golden images give no embedding"
    if golden.pixels_max_error > PIXELS_MAX_ERROR:
        return (
            f"preprocessing differs by {golden.pixels_max_error} of 255 (at most "
            f"{PIXELS_MAX_ERROR} is allowed)"
        )
    if not golden.cosine_min >= admission_cosine:
        return (
            f"golden embeddings reach cosine {golden.cosine_min:.4f}, {admission_cosine:.4f} is "
            "needed"
        )
    return None


def mismatch_of(attestation: Attestation, family: str, expected: Mapping[str, Expected]) -> str:
    """Why an attestation says nothing of the artifacts ``expected`` by digest; empty when it does.

    Its names must agree with the report's: a number must not be shown under another name.
    """
    found = expected.get(attestation.artifact)
    if attestation.family != family or found is None:
        return f"artifact {attestation.artifact[:12]} of {attestation.family} is not in this report"
    if found[:3] != (attestation.member, attestation.runtime, attestation.precision):
        return (
            f"artifact {found.digest[:12]} is {' '.join(found[:3])}, the device says "
            f"{attestation.member} {attestation.runtime} {attestation.precision}"
        )
    return ""
