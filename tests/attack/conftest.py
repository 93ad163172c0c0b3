"""A small family, real from end to end: linear embedders whose weights are the artifact's bytes."""

import io
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from measured import RETRIEVAL, measured
from PIL import Image

from compat.embedding import Embedder, unit_rows
from compat.errors import CorruptError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.policy import Policy
from compat.preprocess import Floats, Preprocess
from compat.report import (
    ArtifactTiming,
    CloudEvidence,
    Evidence,
    ProbeTiming,
    Report,
    Timing,
)
from compat.space import EmbeddingSpace
from edge.budget import Budget
from edge.device import Device
from edge.probes import PROBES
from registry.keys import KeyFolder
from registry.publish import Candidate, publish
from registry.repository import Repository, utc_now

RECIPE = Preprocess(size_px=8)
DIM = 4
FORMATS = (("onnxruntime", "int8"), ("onnxruntime", "fp32"), ("litert", "fp32"))


@dataclass(frozen=True)
class LinearEmbedder:
    """(N, 8, 8, 3) @ weights -> (N, D)."""

    preprocess: Preprocess
    weights: Floats  # (192, D)
    pause_s: float = 0.0  # before each answer

    @property
    def dim(self) -> int:
        return self.weights.shape[1]

    def embed(self, tensors: Floats) -> Floats:
        time.sleep(self.pause_s)
        return unit_rows(tensors.reshape(len(tensors), -1) @ self.weights, "embeddings")


def weights_of(seed: int, nudge: float = 0.0) -> bytes:
    """An artifact's bytes; all give the same length. ``nudge`` moves some weights, for a delta."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(8 * 8 * 3, DIM)).astype(np.float32)
    raw[:20] += np.float32(nudge)
    return safetensors.numpy.save({"weights": raw})


def opener(
    broken: frozenset[str] = frozenset(), slow: frozenset[str] = frozenset()
) -> Callable[..., Embedder]:
    """Opens linear embedders; here ``broken`` ones compute something else, ``slow`` ones wait."""

    def open_linear(path: Path, runtime: str, preprocess: Preprocess, dim: int) -> Embedder:
        try:
            weights = safetensors.numpy.load(path.read_bytes())["weights"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise CorruptError(f"{path} is no linear model") from error
        pause_s = 0.05 if path.name in slow else 0.0
        return LinearEmbedder(
            preprocess, weights[::-1] if path.name in broken else weights, pause_s
        )

    return open_linear


def images() -> tuple[bytes, ...]:
    rng = np.random.default_rng(7)
    encoded = []
    for _ in range(3):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    return tuple(encoded)


def member(name: str, seed: int, blobs: dict[str, bytes], nudge: float) -> Member:
    """A member with one artifact per format; what it names is added to ``blobs``."""
    photos = images()
    pixels = np.stack([RECIPE.pixels(photo) for photo in photos])
    artifacts, embeddings = [], {}
    for i, (runtime, precision) in enumerate(FORMATS):
        blob = weights_of(seed + i, nudge)
        digest = digest_of(blob)
        weights = safetensors.numpy.load(blob)["weights"]
        embeddings[digest] = LinearEmbedder(RECIPE, weights).embed(RECIPE.normalised(pixels))
        blobs[digest] = blob
        artifacts.append(
            Artifact(
                digest=digest,
                size_bytes=len(blob),
                runtime=runtime,
                precision=precision,
                admission_cosine=0.999,
            )
        )
    golden = GoldenSet(photos, pixels, embeddings).to_bytes()
    blobs[digest_of(golden)] = golden
    return Member(
        name=name,
        preprocess=RECIPE,
        macs=768,
        params=768,
        artifacts=tuple(artifacts),
        golden=Blob(digest=digest_of(golden), size_bytes=len(golden)),
    )


@lru_cache
def candidate(
    version: str, *, family: str = "furniture", seed: int = 0, nudge: float = 0.0
) -> Candidate:
    """A whole candidate release; another ``seed`` is other weights of the same sizes."""
    blobs: dict[str, bytes] = {}
    space = EmbeddingSpace(family=family, generation=1, dim=DIM)
    members = (
        member("phone", seed * 100 + 10, blobs, nudge),
        member("watch", seed * 100 + 50, blobs, nudge),
    )
    weights = weights_of(seed * 100)
    blobs[digest_of(weights)] = weights
    cloud_artifact = Artifact(
        digest=digest_of(weights),
        size_bytes=len(weights),
        runtime="onnxruntime",
        precision="fp32",
        admission_cosine=0.999,
    )
    report = Report(
        family=family,
        space=space,
        evidence=Evidence(dataset_digest="0" * 64, split="test", queries=10, gallery=20, classes=5),
        cloud=CloudEvidence(
            name="cloud",
            digest=cloud_artifact.digest,
            size_bytes=len(weights),
            macs=768,
            params=768,
            paragon=RETRIEVAL,
        ),
        artifacts=tuple(
            measured(one, each.name, macs=each.macs) for each in members for one in each.artifacts
        ),
        policy=Policy(),
        timing=Timing(
            machine="a test",
            artifacts=tuple(
                ArtifactTiming(
                    digest=one.digest, latency_ms_p50=1, latency_ms_p95=1, resident_bytes=2**20
                )
                for each in members
                for one in each.artifacts
            ),
            probes=tuple(
                ProbeTiming(
                    digest=each.digest,
                    runtime=each.runtime,
                    precision=each.precision,
                    latency_ms_p50=4,
                )
                for each in PROBES
            ),
        ),
    )
    return Candidate(
        version=version,
        space=space,
        report=report.to_bytes(),
        cloud=Model(
            name="cloud", preprocess=RECIPE, macs=768, params=768, artifacts=(cloud_artifact,)
        ),
        members=members,
        blobs=blobs,
    )


@dataclass
class SmallRegistry:
    """A registry, its keys and its devices under one folder."""

    base: Path
    now: Callable[[], datetime] = utc_now
    released: dict[str, ReleaseManifest] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.base / "registry"

    @property
    def repository(self) -> Repository:
        return Repository(self.folder, KeyFolder(self.base / "keys"), now=self.now)

    def publish(
        self, version: str, *, family: str = "furniture", seed: int = 0, nudge: float = 0.0
    ) -> ReleaseManifest:
        self.repository.create()
        self.repository.add_family(family)
        offered = candidate(version, family=family, seed=seed, nudge=nudge)
        manifest = publish(self.repository, offered)
        self.released[version] = manifest
        return manifest

    def device(
        self,
        name: str = "home",
        *,
        family: str = "furniture",
        member: str | None = None,
        broken: frozenset[str] = frozenset(),
        slow: frozenset[str] = frozenset(),
        budget: Budget | None = None,
    ) -> Device:
        device = self.open(self.base / name, broken=broken, slow=slow)
        root = self.repository.trusted_root
        device.init(str(self.folder), root, family, member=member, budget=budget)
        return device

    def open(
        self,
        home: Path,
        *,
        broken: frozenset[str] = frozenset(),
        slow: frozenset[str] = frozenset(),
    ) -> Device:
        return Device(home, open_embedder=opener(broken, slow), runtimes=("onnxruntime",))

    def copied(self, device: Device, name: str) -> Device:
        """The same device, somewhere else: what an attack does to it stays there."""
        home = self.base / name
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(device.home, home, symlinks=True)
        return self.open(home)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def running(device: Device) -> tuple[str, str, bytes, bytes]:
    """What must not change: release, artifact, its bytes, and the state file's bytes."""
    active = device.active()
    state = (device.home / "current.json").read_bytes()
    return active.manifest.version, active.artifact.label, active.path.read_bytes(), state


class PowerCutError(BaseException):
    """Nothing runs after it, ``except Exception`` included."""


@dataclass
class Power:
    """Counts the calls that change names on disk; goes off before the ``left``-th."""

    left: int

    def spend(self) -> None:
        if self.left <= 0:
            raise PowerCutError
        self.left -= 1


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here can see whether the platters have turned: half of the time saved."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def small(tmp_path: Path) -> SmallRegistry:
    return SmallRegistry(tmp_path)


@pytest.fixture
def cut_power(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Power]:
    """``cut_power(n)``: the power goes before the n-th rename, unlink or symlink from now on.

    It stays off: the ``finally`` blocks that run afterwards remove nothing either.
    """
    names = ("replace", "unlink", "remove", "symlink")
    real = {name: getattr(os, name) for name in names}

    def cut(left: int) -> Power:
        power = Power(left)

        def guarded(name: str) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                power.spend()
                return real[name](*args, **kwargs)

            return call

        for name in names:
            monkeypatch.setattr(os, name, guarded(name))
        return power

    return cut


@pytest.fixture(name="running")
def running_fixture() -> Callable[[Device], tuple[str, str, bytes, bytes]]:
    return running


@pytest.fixture(name="power_cut")
def power_cut_fixture() -> type[BaseException]:
    return PowerCutError


@pytest.fixture(name="candidate")
def candidate_fixture() -> Callable[..., Candidate]:
    return candidate
