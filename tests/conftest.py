"""Shared by the packages: a small set of drawn shapes, and attestations of devices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from compat.attestation import Attestation, DeviceKey
from server_models.config import FamilyConfig, read_family

TOML = """
family = "shapes"
dim = 16
seed = 3

[data]
path = "images/manifest.csv"

[cloud]
backbone = "efficientnet-lite0"
preprocess = { size_px = 32 }
frozen_blocks = 4
schedule = { steps = 4, batch = 8, learning_rate = 1e-3, save_every_steps = 1 }

[[members]]
name = "edge"
backbone = "kin-s"
start = "nothing"
preprocess = { size_px = 32 }
schedule = { steps = 6, batch = 8, learning_rate = 3e-3, save_every_steps = 1 }
"""


def draw(seed: int, turn: int) -> Image.Image:
    """A polygon of the class's own corners and colour, moved a little."""
    rng = np.random.default_rng((seed, 0))
    corners = rng.uniform(8, 40, (5, 2)) + np.random.default_rng((seed, turn)).uniform(-3, 3, 2)
    image = Image.new("RGB", (48, 48), "white")
    colour = tuple(int(c) for c in rng.integers(0, 200, 3))
    ImageDraw.Draw(image).polygon([tuple(c) for c in corners], fill=colour)
    return image


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shapes.toml and its images: eight classes, two roles, a held-out third."""
    root = tmp_path_factory.mktemp("shapes")
    rows = ["path,label,split,role,hue"]
    for label in range(12):
        for turn in range(6):
            name = f"{label}/{turn}.png"
            file = root / "images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(label, turn).save(file)
            split, role = ("train", "test")[label >= 8], ("query", "gallery")[turn % 2]
            rows.append(f"{name},c{label},{split},{role},any")
    (root / "images" / "manifest.csv").write_text("\n".join(rows))
    (root / "shapes.toml").write_text(TOML)
    return root


@pytest.fixture
def family(shapes: Path) -> FamilyConfig:
    return read_family(shapes / "shapes.toml")


@pytest.fixture
def attested_as() -> Callable[..., Attestation]:
    """Makes attestations: one device's numbers, signed by the key given; ``over`` replaces some."""

    def make(
        public: DeviceKey,
        *,
        golden: dict[str, object] | None = None,
        p50: float = 2.0,
        p95: float = 3.0,
        **over: object,
    ) -> Attestation:
        timing = {"runs": 100, "latency_ms_p50": p50, "latency_ms_p95": p95, "resident_bytes": 9}
        fields: dict[str, object] = {
            "family": "furniture",
            "release": "1.0.0",
            "member": "phone",
            "artifact": "a" * 64,
            "runtime": "litert",
            "runtime_version": "2.3.0",
            "precision": "int8",
            "provider": "XNNPACK",
            "device_class": "pixel-8",
            "hardware": {
                "os": "Linux 6",
                "machine": "aarch64",
                "cpu_model": "Tensor G3",
                "cores": 9,
                "memory_bytes": 8 * 2**30,
            },
            "golden": {
                "digest": "b" * 64,
                "images": 16,
                "refused": 0,
                "pixels_max_error": 0,
                "cosine_min": 0.99,
                "cosine_mean": 0.995,
                **(golden or {}),
            },
            "one_thread": {"threads": 1, **timing},
            "all_cores": {"threads": 9, **timing},
            "kinspace_version": "0.1.0",
            "measured_at": "2026-11-25T06:00:00Z",
            "device_key": public,
            **over,
        }
        return Attestation.model_validate(fields)

    return make
