"""A small family that really runs: drawn images, linear embedders in numpy, no mocks."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image

from compat.device_evidence import (
    AttestationSection,
    DeviceClassEvidence,
    DeviceFailure,
    RefusedAttestation,
)
from compat.diagnosis_section import (
    Cause,
    DiagnosisSection,
    LayerNoise,
    QuantisedLayers,
    StageDifference,
)
from compat.evidence import EvidenceSet, LabelledImages
from compat.files import digest_of
from compat.policy import Override, Policy, Rule
from compat.preprocess import Floats, Preprocess
from compat.report import ArtifactTiming, Report, Timing
from compat.report_parts import Estimate
from compat.scores import relevance
from compat.slices import SliceEvidence, SliceSection
from compat.space import EmbeddingSpace
from compat.stress import StressSection, StressSubject, stress
from compat.verification import Subject, verify

DIM, SIZE_PX = 16, 8
RECIPE = Preprocess(size_px=SIZE_PX)
SPACE = EmbeddingSpace(family="drawn", generation=1, dim=DIM)
TIMING = Timing(machine="a test", artifacts=())


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def drawn_images(rng, labels, templates) -> tuple[bytes, ...]:
    noise = rng.normal(scale=30, size=(len(labels), SIZE_PX, SIZE_PX, 3))
    return tuple(png(p) for p in (templates[labels] + noise).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class LinearEmbedder:
    """pixels -> matrix -> (noise that depends on the image alone) -> L2 norm 1."""

    matrix: np.ndarray = field(repr=False)  # (S * S * 3, D)
    noise: float = 0.0
    preprocess: Preprocess = RECIPE

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    def embed(self, tensors: Floats) -> Floats:
        flat = tensors.reshape(len(tensors), -1)
        raw = flat @ self.matrix
        raw = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        for row, image in enumerate(flat):
            seed = int(digest_of(np.ascontiguousarray(image).tobytes())[:8], 16)
            raw[row] += self.noise * np.random.default_rng(seed).normal(size=raw.shape[1])
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class SpoiltEmbedder:
    """A broken export: what another embedder gives, spoilt by a function."""

    whole: LinearEmbedder
    spoil: Callable[[Floats], Floats]

    @property
    def preprocess(self) -> Preprocess:
        return self.whole.preprocess

    @property
    def dim(self) -> int:
        return self.whole.dim

    def embed(self, tensors: Floats) -> Floats:
        return self.spoil(self.whole.embed(tensors))


@dataclass(frozen=True)
class Drawn:
    """The family: evidence, cloud model, and how to make members."""

    evidence: EvidenceSet
    cloud: Subject
    cloud_embedder: LinearEmbedder
    member_embedder: LinearEmbedder
    space: EmbeddingSpace = SPACE
    timing: Timing = TIMING

    def embed_queries(self, embedder) -> Floats:
        pixels = [
            embedder.preprocess.tensor(image, name)
            for image, name in zip(
                self.evidence.queries.images, self.evidence.queries.names, strict=True
            )
        ]
        return embedder.embed(np.stack(pixels))

    def member(self, embedder=None, **over) -> Subject:
        """A member at parity with its trained weights, unless `reference` says otherwise."""
        embedder = embedder or self.member_embedder
        name = over.get("name", "edge-s")
        subject = Subject(
            name=name,
            macs=2_800_000,
            params=400_000,
            runtime="onnxruntime",
            precision="fp32",
            digest=digest_of(name.encode()),
            size_bytes=1_600_000,
            embedder=embedder,
        )
        over.setdefault("reference", self.embed_queries(self.member_embedder))
        return replace(subject, **over)

    def spoilt(self, spoil, **over) -> Subject:
        return self.member(SpoiltEmbedder(self.member_embedder, spoil), **over)


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """Twelve classes, four queries and six gallery images of each."""
    rng = np.random.default_rng(0)
    templates = rng.uniform(60, 200, size=(12, SIZE_PX, SIZE_PX, 3))
    query_labels, gallery_labels = np.repeat(np.arange(12), 4), np.repeat(np.arange(12), 6)
    sides = []
    for side, labels in (("query", query_labels), ("gallery", gallery_labels)):
        sides.append(
            LabelledImages(
                names=tuple(f"{side}/{i}.png" for i in range(len(labels))),
                images=drawn_images(rng, labels, templates),
                labels=tuple(f"class-{label}" for label in labels),
            )
        )
    cloud = LinearEmbedder(rng.normal(size=(SIZE_PX * SIZE_PX * 3, DIM)))
    return Drawn(
        evidence=EvidenceSet(*sides, dataset_digest="d" * 64, split="test"),
        cloud=Subject(
            name="cloud",
            macs=139_000_000,
            params=4_000_000,
            runtime="onnxruntime",
            precision="fp32",
            digest="c" * 64,
            size_bytes=16_000_000,
            embedder=cloud,
        ),
        cloud_embedder=cloud,
        member_embedder=replace(cloud, noise=0.16),
    )


@pytest.fixture(scope="session")
def drawn_report(drawn: Drawn) -> Report:
    """Measured for real: one admitted, one refused, one broken; a rule that is overridden."""
    tiny = drawn.member(replace(drawn.cloud_embedder, noise=0.9), name="tiny", macs=400_000)
    broken = drawn.spoilt(lambda embeddings: embeddings * np.nan, name="broken")
    small = drawn.member()
    return verify(
        drawn.evidence,
        drawn.cloud,
        members=[small, tiny, broken],
        space=drawn.space,
        policy=Policy(
            rules=(Rule(name="no-flips", measure="flips.negative_flip_rate", max=0.0),),
            overrides=(
                Override(rule="no-flips", reason="a pilot of ten phones", signer="M. Ruiz"),
            ),
        ),
        timing=Timing(
            machine="a test",
            artifacts=(
                ArtifactTiming(
                    digest=small.digest,
                    latency_ms_p50=2.0,
                    latency_ms_p95=2.5,
                    resident_bytes=2**24,
                ),
            ),
        ),
    )


@pytest.fixture(scope="session")
def full_report(drawn: Drawn, drawn_report: Report) -> Report:
    """The same with every section that a report may have; stress is measured for real."""
    first = drawn_report.artifacts[0]
    best = drawn_report.cloud.paragon.hit_rate_at_10
    part = SliceEvidence(
        artifact=first.digest,
        column="light",
        value="dim",
        cross_hit_rate_at_10=best,
        paragon_hit_rate_at_10=best,
        difference=Estimate(value=-0.2, low=-0.3, high=-0.1, counted=48, skipped=0),
        p_adjusted=0.01,
        is_deciding=True,
    )
    device = DeviceClassEvidence(
        device_class="pixel-8",
        member=first.member,
        runtime=first.runtime,
        precision=first.precision,
        digest=first.digest,
        provenance="measured on pixel-8",
        backends=("onnxruntime 1.32.0 CPU",),
        devices=2,
        attestations=3,
        admission_cosine=0.999,
        cosine_worst=0.31,
        refused_images=0,
        latency_ms_p50=3.2,
        latency_ms_p95=5.0,
        all_cores_latency_ms_p50=1.2,
        all_cores_latency_ms_p95=2.0,
        resident_bytes_max=2**26,
        failures=(DeviceFailure(key_id="a" * 64, source="x.json", reason="golden cosine is 0.31"),),
    )
    stage = StageDifference(
        stage="edge int8",
        against="edge fp32",
        measure="cosine distance",
        difference=0.02,
        worst=0.2,
        tolerance=0.01,
        share=0.9,
    )
    noise = LayerNoise(layer="conv_1", sqnr_db=10.5, local_sqnr_db=None)
    diagnosis = DiagnosisSection(
        images=16,
        stages=(stage,),
        first=stage.stage,
        causes=(
            Cause(
                name="channels swapped",
                cure="swap them back",
                unexplained_before=0.2,
                unexplained_after=0.1,
                explains=False,
            ),
        ),
        layers=(
            QuantisedLayers(
                artifact="edge int8",
                measured=20,
                output_sqnr_db=14.0,
                worst=(noise,),
                suggestion="keep conv_1 in float",
            ),
        ),
        suggestion="look at the layers",
    )
    return drawn_report.model_copy(
        update={
            "slices": SliceSection(rows=(part,), too_small=2),
            "attestations": AttestationSection(
                trust="self-signed",
                classes=(device,),
                refused=(RefusedAttestation(source="y.json", reason="its signature is wrong"),),
            ),
            "diagnosis": diagnosis,
            "stress": _stressed(drawn),
        }
    )


def _stressed(drawn: Drawn) -> StressSection:
    pixels = np.stack([RECIPE.pixels(image) for image in drawn.evidence.queries.images])
    gallery = np.stack([RECIPE.tensor(image) for image in drawn.evidence.gallery.images])
    labels = drawn.evidence.queries.labels
    return stress(
        [StressSubject("cloud fp32", drawn.cloud_embedder, None, pixels)],
        drawn.cloud_embedder.embed(gallery),
        lambda rows: relevance([labels[row] for row in rows], drawn.evidence.gallery.labels),
        labels,
    )
