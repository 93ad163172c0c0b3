"""A small family that really runs: drawn images, linear embedders in numpy, no mocks."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image

from compat.evidence import EvidenceSet, LabelledImages
from compat.files import digest_of
from compat.policy import Override, Policy, Rule
from compat.preprocess import Floats, Preprocess
from compat.report import ArtifactTiming, Report, Timing
from compat.space import EmbeddingSpace
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
