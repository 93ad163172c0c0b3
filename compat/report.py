"""The compatibility report: measured evidence, and the verdict that the gate drew from it.

Fractions in [0, 1], query first, intervals 95%. Everything outside ``timing`` is the same bytes on
a rerun; ``timing`` holds what depends on the machine and the moment. The JSON Schema is published
in docs/schema and made by ``kinspace report schema``.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationError

from compat.diagnosis_section import DiagnosisSection
from compat.errors import UsageError
from compat.manifest import Digest, Precision, Runtime, canonical_json
from compat.report_parts import Estimate, Part
from compat.space import EmbeddingSpace, Name

MAX_REPORT_BYTES = 16 * 2**20
_PARITY: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.9}


class Retrieval(Part):
    """How well one query model finds in one gallery: M(query, gallery)."""

    hit_rate_at_1: Estimate = Field(alias="hit_rate@1")
    hit_rate_at_10: Estimate = Field(alias="hit_rate@10")
    map: Estimate


class Differences(Part):
    """Paired differences, query by query, of two tests on the same queries."""

    hit_rate_at_1: Estimate = Field(alias="hit_rate@1")
    hit_rate_at_10: Estimate = Field(alias="hit_rate@10")
    map: Estimate


class Parity(Part):
    """Same weights, two backends: this artifact against the training framework, image by image."""

    cosine_min: float
    cosine_mean: float
    centred_cosine_mean: float  # after taking away the mean embedding: a collapsed cone shows here


class Flips(Part):
    """Queries that the paragon answers at rank 1 and this member does not (arXiv:2011.09161)."""

    flips: int
    negative_flip_rate: Estimate  # flips / all counted queries
    relative_nfr: float | None  # NFR / ((1 - error of paragon) * error of member); None if 0 / 0


class Verdict(Part):
    """What the gate says of one artifact, in words."""

    compatible: bool  # the compatibility rule: M(q, g) > M(q, q) in mAP
    admitted: bool
    reasons: tuple[str, ...]  # of a refusal; empty when admitted


class ArtifactEvidence(Part):
    """One exported file of one member, measured by the embedder that ships."""

    member: Name
    runtime: Runtime
    precision: Precision
    digest: Digest
    size_bytes: int
    macs: int
    params: int
    parity: Parity
    self_test: Retrieval  # M(q, q)
    cross_test: Retrieval  # M(q, g)
    cross_minus_self: Differences
    cross_minus_paragon: Differences
    overlap_at_10: Estimate = Field(alias="overlap@10")  # of the cloud's own ten, how many are here
    flips: Flips
    verdict: Verdict

    @property
    def label(self) -> str:
        return f"{self.member} {self.runtime}/{self.precision}"


class UnmeasuredArtifact(Part):
    """One whose embeddings cannot be compared at all: no number of it could be believed."""

    member: Name
    runtime: Runtime
    precision: Precision
    digest: Digest
    size_bytes: int
    macs: int
    params: int
    verdict: Verdict  # never admitted

    @property
    def label(self) -> str:
        return f"{self.member} {self.runtime}/{self.precision}"


class CloudEvidence(Part):
    """The gallery model on both sides: the paragon M(g, g)."""

    name: Name
    digest: Digest
    size_bytes: int
    macs: int
    params: int
    paragon: Retrieval


class Evidence(Part):
    """What was measured on: digests and counts of the held-out split."""

    dataset_digest: Digest
    split: str
    queries: int
    gallery: int
    classes: int


class Policy(Part):
    """The rules of the gate, all of them."""

    min_cross_to_paragon: float = 0.9  # of hit_rate@10
    min_parity_cosine: Mapping[Precision, float] = Field(default=_PARITY)
    require_compatibility_rule: bool = True


class ArtifactTiming(Part):
    """What one artifact costs on the machine that verified it, one thread."""

    digest: Digest
    latency_ms_p50: float
    latency_ms_p95: float
    resident_bytes: int  # of a process that holds this model and its runtime, nothing else


class Timing(Part):
    """Declared not reproducible."""

    machine: str
    artifacts: tuple[ArtifactTiming, ...]

    def of(self, digest: str) -> ArtifactTiming | None:
        return next((each for each in self.artifacts if each.digest == digest), None)


class Report(Part):
    """Evidence for one candidate release."""

    format: Literal[1] = 1
    family: Name
    space: EmbeddingSpace
    evidence: Evidence
    cloud: CloudEvidence
    artifacts: tuple[ArtifactEvidence, ...]
    unmeasured: tuple[UnmeasuredArtifact, ...] = ()
    diagnosis: DiagnosisSection | None = None
    policy: Policy
    timing: Timing

    @property
    def admitted(self) -> tuple[ArtifactEvidence, ...]:
        return tuple(each for each in self.artifacts if each.verdict.admitted)

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UsageError when the bytes are no report of a format that we know."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise UsageError(f"not a report that this version reads: {error}") from error
