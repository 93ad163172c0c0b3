"""Per-layer SQNR: against a slow oracle, with clean, noise-calibrated and single spoilt ranges."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from compat.diagnosis_section import LayerNoise
from compat.errors import UsageError
from compat.preprocess import Floats
from server_models.export import export_onnx_fp32, export_onnx_int8
from server_models.export.layer_noise import measure_layers, suggest

S = 16


def images(n: int, seed: int) -> Floats:
    """(n, S, S, 3) in about [-2, 2]: smooth waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:S, 0:S] / S
    waves = [
        sum(np.sin(a * y + b * x + c)[..., None] * rng.normal(size=3) for a, b, c in row)
        for row in rng.normal(size=(n, 4, 3)) * (6, 6, 3)
    ]
    return np.stack(waves).astype(np.float32)


@pytest.fixture(scope="module")
def fp32() -> bytes:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8),
    )  # fmt: skip
    return export_onnx_fp32(net, S)


def embed(blob: bytes, tensors: Floats) -> Floats:
    session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    rows: Floats = session.run(None, {"image": tensors})[0]
    return rows


def test_real_calibration_loses_little(fp32: bytes) -> None:
    int8, real = export_onnx_int8(fp32, images(64, 0)), images(8, 1)
    found = measure_layers(fp32, int8, real, "net")
    assert found.measured >= 2
    assert found.suggestion == "no layer loses much: no layer needs float"
    exact, quantised = embed(fp32, real), embed(int8, real)
    power = sum(float(v) ** 2 for v in exact.ravel())
    lost = sum(float(a - b) ** 2 for a, b in zip(exact.ravel(), quantised.ravel(), strict=True))
    # the file under the optimiser rounds in places where the plain graph does not
    assert found.output_sqnr_db == pytest.approx(10 * np.log10(power / lost), abs=3)
    assert [each.sqnr_db for each in found.worst] == sorted(each.sqnr_db for each in found.worst)


def test_noise_calibration_shows_and_is_named(fp32: bytes) -> None:
    noise = (np.random.default_rng(0).normal(size=(64, S, S, 3)) * 0.2).astype(np.float32)
    real = images(8, 1)
    found = measure_layers(fp32, export_onnx_int8(fp32, noise), real, "net")
    good = measure_layers(fp32, export_onnx_int8(fp32, images(64, 0)), real, "net")
    assert found.output_sqnr_db < good.output_sqnr_db - 10
    assert "recalibrate on real images" in found.suggestion
    assert max(each.clipped or 0 for each in found.worst) > 0.05


def test_one_spoilt_range_is_found_by_its_own_loss(fp32: bytes) -> None:
    proto = onnx.load_model_from_string(export_onnx_int8(fp32, images(64, 0)))
    pairs = [each for each in proto.graph.node if each.op_type == "QuantizeLinear"]
    other = pairs[len(pairs) // 2]
    [scale] = [each for each in proto.graph.initializer if each.name == other.input[1]]
    wide = onnx.numpy_helper.to_array(scale) * np.float32(30)
    scale.CopyFrom(onnx.numpy_helper.from_array(np.asarray(wide), scale.name))
    found = measure_layers(fp32, proto.SerializeToString(), images(8, 1), "net")
    spoilt = other.input[0].removesuffix("_QuantizeLinear_Input")
    poorest = min(found.worst, key=lambda each: each.local_sqnr_db or 0)
    assert poorest.layer == spoilt


def test_suggestions_tell_the_cases_apart() -> None:
    def layer(name: str, sqnr: float, own: float, clipped: float) -> LayerNoise:
        return LayerNoise(layer=name, sqnr_db=sqnr, local_sqnr_db=own, clipped=clipped)

    fine = [layer(f"f{i}", 25, 40, 0.0) for i in range(9)]
    assert "clip up to 20.0%" in suggest([layer("a", 3, 5, 0.2), *fine])
    assert "keep a in float" in suggest([layer("a", 12, 15, 0.0), *fine])
    assert "too wide" in suggest([layer(f"w{i}", 12, 15, 0.0) for i in range(9)])
    assert "adds up" in suggest([layer("a", 4, 40, 0.0), *fine])
    assert "no layer needs float" in suggest(fine)


def test_files_with_nothing_in_common_are_refused(fp32: bytes) -> None:
    with pytest.raises(UsageError, match="no layer"):
        measure_layers(fp32, fp32, images(2, 0), "net")
    with pytest.raises(UsageError, match="at least one image"):
        measure_layers(fp32, fp32, images(1, 0)[:0], "net")
