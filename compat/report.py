"""The compatibility report: measured evidence, and the verdict that the gate drew from it.

Fractions in [0, 1], query first, intervals 95%. Everything outside ``timing`` is the same bytes on
a rerun; ``timing`` holds what depends on the machine and the moment. The JSON Schema is published
in docs/schema and made by ``kinspace report schema``.
"""

from typing import Literal, Self

from pydantic import Field, ValidationError

from compat.calibration import Calibration
from compat.device_evidence import AttestationSection
from compat.diagnosis_section import DiagnosisSection
from compat.errors import UsageError
from compat.manifest import Digest, Precision, Runtime
from compat.policy import Outcome, Policy
from compat.previous import PreviousEvidence
from compat.report_parts import Estimate, Part, Provenance
from compat.score_histogram import ScoreHistogram
from compat.slices import SliceSection
from compat.space import EmbeddingSpace, Name
from compat.stress import StressSection
from compat.wire import canonical_json

MAX_REPORT_BYTES = 16 * 2**20


class Retrieval(Part):
    """How well one query model finds in one gallery: M(query, gallery)."""

    hit_rate_at_1: Estimate = Field(alias="hit_rate@1")
    hit_rate_at_10: Estimate = Field(alias="hit_rate@10")
    map: Estimate
    recall_at_10: Estimate = Field(alias="recall@10")
    r_precision: Estimate
    map_at_r: Estimate = Field(alias="map@r")


class Differences(Part):
    """Paired differences, query by query, of two tests on the same queries."""

    hit_rate_at_1: Estimate = Field(alias="hit_rate@1")
    hit_rate_at_10: Estimate = Field(alias="hit_rate@10")
    map: Estimate


class Resolvable(Part):
    """The true difference that this test set shows with 80% power at 5%, two-sided."""

    hit_rate_at_1: float = Field(alias="hit_rate@1")
    hit_rate_at_10: float = Field(alias="hit_rate@10")
    map: float


class Acceptance(Part):
    """A score threshold chosen on the paragon and kept for this query model: does it hold?"""

    threshold: float  # of cosine
    paragon_far: float  # false accepts / impostor pairs, what the threshold was chosen for
    paragon_tar: float
    far: float  # of this query model, same threshold
    tar: float


class EmbeddingError(Part):
    """How far embeddings are from the trained weights', in units that retrieval feels."""

    margin_normalised: Estimate  # ||q - ref|| / the reference's margin, best right to best wrong
    centred: Estimate  # ||q - ref|| / the reference's distance from the mean embedding


class Parity(Part):
    """Same weights, two backends: this artifact against the training framework, image by image."""

    cosine_min: float
    cosine_mean: float
    centred_cosine_mean: float  # after taking away the mean embedding: a collapsed cone shows here


class FlipExample(Part):
    """One negative flip: rows of the split's queries and gallery, in the order of its manifest."""

    query: int
    cloud: tuple[int, ...]  # the best three by the cloud model, best first
    member: tuple[int, ...]  # the best three by this artifact


class Flips(Part):
    """Queries that the paragon answers at rank 1 and this member does not (arXiv:2011.09161)."""

    flips: int
    positive_flips: int  # right here, wrong by the paragon
    negative_flip_rate: Estimate  # flips / all counted queries
    relative_nfr: float | None  # NFR / ((1 - error of paragon) * error of member); None if 0 / 0
    examples: tuple[FlipExample, ...] = ()  # drawn evenly from all of them


class Verdict(Part):
    """What the gate says of one artifact, in words."""

    compatible: bool  # the compatibility rule: M(q, g) > M(q, q) in mAP
    admitted: bool
    reasons: tuple[str, ...]  # of a refusal; empty when admitted
    outcomes: tuple[Outcome, ...] = ()  # rule by rule


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
    rank_biased_overlap: Estimate  # the same rankings, the first places weighing most
    flips: Flips
    previous: PreviousEvidence | None = None  # None: no previous release, or it lacks this artifact
    acceptance: Acceptance | None  # None: too few impostor pairs to choose a threshold on
    embedding_error: EmbeddingError
    resolvable: Resolvable  # of the differences with the paragon
    cross_above_self_p: float  # permutation test in mAP, Holm-adjusted over the artifacts
    amortised_macs: float  # for one query a gallery item: (c_g + c_q) / 2
    scores: ScoreHistogram | None = None  # of M(q, g)
    calibration: Calibration | None = None  # onto M(g, g); None: the scores tell nothing apart
    provenance: Provenance = "measured here"
    cost_provenance: Provenance = "declared"  # macs and params: what the export counted
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
    scores: ScoreHistogram | None = None  # of M(g, g)
    provenance: Provenance = "measured here"
    cost_provenance: Provenance = "declared"


class Evidence(Part):
    """What was measured on: digests and counts of the held-out split."""

    dataset_digest: Digest
    split: str
    queries: int
    gallery: int
    classes: int


class ArtifactTiming(Part):
    """What one artifact costs on the machine that verified it, one thread."""

    digest: Digest
    latency_ms_p50: float
    latency_ms_p95: float
    resident_bytes: int  # of a process that holds this model and its runtime, nothing else


class ProbeTiming(Part):
    """What a probe network costs on the same machine, the same way: what latencies are told in."""

    digest: Digest
    runtime: Runtime
    precision: Precision
    latency_ms_p50: float = Field(gt=0)


class Timing(Part):
    """Declared not reproducible."""

    machine: str
    artifacts: tuple[ArtifactTiming, ...]
    probes: tuple[ProbeTiming, ...] = ()
    provenance: Provenance = "measured here"

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
    slices: SliceSection | None = None
    stress: StressSection | None = None
    attestations: AttestationSection | None = None
    diagnosis: DiagnosisSection | None = None
    policy: Policy
    timing: Timing

    @property
    def admitted(self) -> tuple[ArtifactEvidence, ...]:
        return tuple(each for each in self.artifacts if each.verdict.admitted)

    @property
    def refused(self) -> tuple[ArtifactEvidence | UnmeasuredArtifact, ...]:
        judged: tuple[ArtifactEvidence | UnmeasuredArtifact, ...]
        judged = (*self.artifacts, *self.unmeasured)
        return tuple(each for each in judged if not each.verdict.admitted)

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UsageError when the bytes are no report of a format that we know."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(
                f"not a report that this version reads: {where}: {first['msg']} "
                f"({error.error_count()} such faults); verify again"
            ) from error
