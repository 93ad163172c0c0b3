"""The release manifest: what was published, by digest. Frozen; unknown fields survive a re-write.

One release is atomic: space, cloud model, members, golden sets and the report that admitted them.
It lists only artifacts that the gate admitted; what was refused, and why, is in the report.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace, Name
from compat.wire import Document, Wire, canonical_json

MAX_MANIFEST_BYTES = 2**20
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")]
Runtime = Literal["onnxruntime", "litert"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIX: dict[str, str] = {"onnxruntime": "onnx", "litert": "tflite"}


class Blob(Wire):
    """Bytes by name: the registry stores each once."""

    digest: Digest
    size_bytes: int = Field(ge=0, le=2**32)


class RelativeLatency(Wire):
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


class Model(Wire):
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


class ReleaseManifest(Document):
    """A signed, immutable release of a family.

    Version semantics: patch = same members, parity within tolerance; minor = a new member in the
    same space; major = a new generation, galleries must be refreshed.
    """

    CALLED: ClassVar[str] = "a release manifest"
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

    def find_artifact(self, digest: str) -> tuple[Member, Artifact] | None:
        """The member and artifact that ``digest`` names, if this release lists it."""
        for member in self.members:
            if artifact := member.artifact(digest):
                return member, artifact
        return None


class Requirements(Wire):
    """What a device must have to be offered a release. A field that a device does not know is a
    requirement that it does not meet."""

    min_client: Version = "0.0.0"  # of kinspace on the device
    runtimes: tuple[Runtime, ...] = ()  # one of them; empty: any
    systems: tuple[str, ...] = ()  # one of them, as Python's platform.system() says; empty: any
    min_memory_bytes: int = Field(default=0, ge=0)


class HaltRule(Wire):
    """When devices' reports take a rollout back: see `compat.halting`."""

    failure_share: float = Field(default=0.05, ge=0, lt=1)  # that is too many
    min_devices: int = Field(default=20, ge=1)  # that must have reported before


class Rollout(Wire):
    """A release on its way: offered to a share of the devices (docs/adr/0012)."""

    version: Version
    percent: float = Field(ge=0, le=100)
    paused: bool = False  # no further device takes it; those that run it keep it
    requires: Requirements = Requirements()
    halt: HaltRule = HaltRule()

    @property
    def is_for_all(self) -> bool:
        return self.percent == 100 and not self.paused and self.requires == Requirements()


class Channel(Document):
    """A named moving pointer: a settled release, and those that are being rolled out above it.

    A client that knows nothing of rollouts reads ``version`` and is safe with it.
    """

    CALLED: ClassVar[str] = "a channel"
    format: Literal[1] = 1
    family: Name
    channel: Name
    version: Version  # for whoever is in no rollout
    rollouts: tuple[Rollout, ...] = Field(default=(), max_length=8)  # the newest first


# Names of signed targets. Blobs are content-addressed: equal bytes are stored and fetched once.
def blob_target(family: str, digest: str) -> str:
    return f"{family}/blobs/{digest}"


def manifest_target(family: str, version: str) -> str:
    return f"{family}/releases/{version}.json"


def channel_target(family: str, channel: str) -> str:
    return f"{family}/channels/{channel}.json"
