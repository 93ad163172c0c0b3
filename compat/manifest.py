"""The release manifest: what was published, by digest. Frozen; unknown fields survive a re-write.

One release is atomic: space, cloud model, members, golden sets and the report that admitted them.
It lists only artifacts that the gate admitted; what was refused, and why, is in the report.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compat.errors import UntrustedError
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace, Name

MAX_MANIFEST_BYTES = 2**20
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")]
Runtime = Literal["onnxruntime", "litert"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIX: dict[str, str] = {"onnxruntime": "onnx", "litert": "tflite"}


class _Wire(BaseModel):
    """A wire format meets the future: keep what is not known. Subclasses are frozen values."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Blob(_Wire):
    """Bytes by name: the registry stores each once."""

    digest: Digest
    size_bytes: int = Field(ge=0, le=2**32)


class RelativeLatency(_Wire):
    """How long an artifact takes, in times of a probe network on the same machine."""

    probe: Digest  # of the probe file, see `edge.probes`
    ratio: float = Field(gt=0, allow_inf_nan=False)  # medians: batch 1, one thread, own process


class Artifact(Blob):
    """One exported file of a model: what a runtime loads."""

    runtime: Runtime
    precision: Precision
    admission_cosine: float = Field(ge=0, le=1)  # a device's golden embeddings reach at least this
    latency: RelativeLatency | None = None  # None: nobody measured it
    resident_bytes: int | None = Field(default=None, ge=0)  # a process with it and its runtime

    @property
    def label(self) -> str:
        return f"{self.runtime}/{self.precision}"


class Model(_Wire):
    """A network and how to feed it."""

    name: Name
    preprocess: Preprocess
    macs: int = Field(gt=0)  # multiply-accumulates for one image
    params: int = Field(gt=0)
    artifacts: tuple[Artifact, ...] = Field(min_length=1)


class Member(Model):
    """A query model of the family, with the golden set that its devices check themselves on."""

    golden: Blob

    def artifact(self, digest: str) -> Artifact | None:
        return next((each for each in self.artifacts if each.digest == digest), None)


class ReleaseManifest(_Wire):
    """A signed, immutable release of a family.

    Version semantics: patch = same members, parity within tolerance; minor = a new member in the
    same space; major = a new generation, galleries must be refreshed.
    """

    format: Literal[1] = 1
    family: Name
    version: Version
    space: EmbeddingSpace
    cloud: Model
    members: tuple[Member, ...] = Field(min_length=1)
    report: Blob

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.space.family != self.family:
            raise ValueError(f"space {self.space.id} is not of family {self.family}")
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError(f"member names repeat: {names}")
        return self

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, UTF-8, a newline at the end."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UntrustedError when the bytes are no manifest of a format that we know."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise UntrustedError(
                f"not a release manifest that this version reads: {error}"
            ) from error

    def find_artifact(self, digest: str) -> tuple[Member, Artifact] | None:
        """The member and artifact that ``digest`` names, if this release lists it."""
        for member in self.members:
            if artifact := member.artifact(digest):
                return member, artifact
        return None


class Channel(_Wire):
    """A named moving pointer to a release."""

    format: Literal[1] = 1
    family: Name
    channel: Name
    version: Version

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UntrustedError."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise UntrustedError(f"not a channel that this version reads: {error}") from error


def canonical_json(tree: object) -> bytes:
    """The one spelling of a JSON tree: sorted keys, two-space indent, UTF-8, newline at the end."""
    text = json.dumps(tree, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


# Names of signed targets. Blobs are content-addressed: equal bytes are stored and fetched once.
def blob_target(family: str, digest: str) -> str:
    return f"{family}/blobs/{digest}"


def manifest_target(family: str, version: str) -> str:
    return f"{family}/releases/{version}.json"


def channel_target(family: str, channel: str) -> str:
    return f"{family}/channels/{channel}.json"
