"""Per-layer SQNR of a quantised ONNX file: which layers lose most on real images, and what to do.

SQNR = 20 log10(||x|| / ||x - x'||) dB, x a layer's float output and x' the same tensor after its
quantise-dequantise pair in the int8 file (onnxruntime.quantization.qdq_loss_debug).
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.qdq_loss_debug import (
    collect_activations,
    compute_signal_to_quantization_noice_ratio,
    create_activation_matching,
    modify_model_output_intermediate_tensors,
)

from compat.diagnosis_section import LayerNoise, QuantisedLayers
from compat.errors import UsageError
from compat.preprocess import Floats
from server_models.export.calibration import feeds
from server_models.export.quiet import quiet

WORST = 8  # layers shown
LOST_DB = 10.0  # below: the noise is a third of the signal
FITTING_DB = 30.0  # of rounding alone; 8 bits over a fitting range give 32 to 49
CLIPPED = 0.003  # share of values outside the range; true minima and maxima leave 0.001


def measure_layers(fp32: bytes, int8: bytes, images: Floats, artifact: str) -> QuantisedLayers:
    """Run both files with every intermediate output exposed and compare layer by layer.

    Args:
        fp32: the file that was quantised.
        int8: what became of it, in QDQ form.
        images: (N, S, S, 3) float32, real images after the recipe.
        artifact: what to call it.

    Raises:
        UsageError: the files have no layer in common, or there is no image.
    """
    if not len(images):
        raise UsageError("per-layer noise needs at least one image")
    with tempfile.TemporaryDirectory() as folder, quiet():
        outputs = [_activations(Path(folder), blob, images) for blob in (int8, fp32)]
    matched = create_activation_matching(*outputs)
    ranges = _ranges(int8)
    noise = [
        _noise(name, pair["float"], pair["post_qdq"], *ranges[name])
        for name, pair in matched.items()
        if "float" in pair and name in ranges
    ]
    if not noise:
        raise UsageError(f"{artifact} shares no layer with its float file: export both again")
    output = compute_signal_to_quantization_noice_ratio(
        *(each["embedding"] for each in reversed(outputs))
    )
    noise.sort(key=lambda each: (each.sqnr_db, each.layer))
    return QuantisedLayers(
        artifact=artifact,
        measured=len(noise),
        output_sqnr_db=float(output),
        worst=tuple(noise[:WORST]),
        suggestion=suggest(noise),
    )


def _noise(
    name: str, exact: list[Floats], quantised: list[Floats], scale: float, zero: int
) -> LayerNoise:
    """One layer against its float twin; its own loss is that of rounding the float values alone.

    The values before the pair in the int8 file do not serve: an activation (ReLU6) that the range
    implies was taken out there, so that its work would count as loss.
    """
    values = np.concatenate([each.ravel() for each in exact])
    steps = np.rint(values / scale) + zero
    rounded = ((steps.clip(0, 255) - zero) * scale).astype(np.float32)
    return LayerNoise(
        layer=name,
        sqnr_db=float(compute_signal_to_quantization_noice_ratio(exact, quantised)),
        local_sqnr_db=float(compute_signal_to_quantization_noice_ratio(values, rounded)),
        clipped=float(np.mean((steps < 0) | (steps > 255))),
    )


def _ranges(int8: bytes) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each activation that the file quantises to eight unsigned bits."""
    graph = onnx.load_model_from_string(int8).graph
    constants = {each.name: each for each in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and {*node.input[1:]} <= constants.keys():
            scale, zero = (onnx.numpy_helper.to_array(constants[each]) for each in node.input[1:])
            if scale.size == 1 and zero.dtype == np.uint8:
                name = node.input[0].removesuffix("_QuantizeLinear_Input")
                found[name] = (float(scale.item()), int(zero.item()))
    return found


def suggest(noise: list[LayerNoise]) -> str:
    """What to do about the worst layers; ``noise`` is of all layers, worst first."""
    misfit = [each for each in noise if (each.local_sqnr_db or 0.0) < FITTING_DB]
    clips = [each for each in misfit if (each.clipped or 0.0) > CLIPPED]
    cure = "recalibrate on real images after the recipe, with true minima and maxima"
    if clips:
        most = max(each.clipped or 0.0 for each in clips)
        return f"{len(clips)} of {len(noise)} layers clip up to {most:.1%} of their values: {cure}"
    if len(misfit) > len(noise) // 4:
        return f"{len(misfit)} of {len(noise)} layers have ranges far too wide: {cure}"
    if misfit:
        names = ", ".join(each.layer for each in misfit[:3])
        return f"few layers lose most by their own rounding: keep {names} in float"
    lost = [each.layer for each in noise if each.sqnr_db < LOST_DB]
    if lost:
        names = ", ".join(lost[:3])
        return f"noise adds up to a third of the signal at {names}: keep these layers in float"
    return "no layer loses much: no layer needs float"


def _activations(folder: Path, blob: bytes, images: Floats) -> dict[str, list[Floats]]:
    source, target = folder / "model.onnx", folder / "augmented.onnx"
    source.write_bytes(blob)
    modify_model_output_intermediate_tensors(source, target)
    found: dict[str, list[Floats]] = collect_activations(str(target), feeds(images))
    return found
