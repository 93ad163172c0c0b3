"""Export: a trained network -> the files that devices run (docs/adr/0005).

``export_artifacts`` makes all of them: ONNX in fp32 and int8, TFLite in fp32, fp16 and int8. Every
file takes `image` (N, S, S, 3) float32, normalised, channels last, and gives `embedding` (N, D)
float32, **raw**: the embedder makes unit rows after every runtime. One file each, equal bytes for
equal weights, nothing of the building machine inside. ``count_macs`` and ``count_params`` say what
the network costs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from compat.manifest import Precision, Runtime
from compat.preprocess import Floats
from server_models.export.calibration import check_calibration
from server_models.export.foreign import count_onnx_params, with_channels_last
from server_models.export.macs import count_macs, count_params
from server_models.export.onnx import export_onnx_fp32, export_onnx_int8
from server_models.export.tflite import (
    export_tflite_fp16,
    export_tflite_fp32,
    export_tflite_int8,
)

__all__ = [
    "ExportedFile",
    "count_macs",
    "count_onnx_params",
    "count_params",
    "export_artifacts",
    "export_onnx_fp32",
    "export_onnx_int8",
    "export_tflite_fp16",
    "export_tflite_fp32",
    "export_tflite_int8",
    "with_channels_last",
]


@dataclass(frozen=True)
class ExportedFile:
    """One file of one network, before it has a digest and a place in a manifest."""

    runtime: Runtime
    precision: Precision
    blob: bytes

    @property
    def label(self) -> str:
        return f"{self.runtime}/{self.precision}"


def export_artifacts(
    model: nn.Module,
    size_px: int,
    calibration: Floats,
    *,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> tuple[ExportedFile, ...]:
    """All five files of a network.

    Args:
        model: (N, 3, S, S) float32 normalised -> (N, D) float32 raw.
        size_px: S.
        calibration: (M, S, S, 3) float32, real images after the recipe; see ``calibration``.
        progress: told the label, how many files are done and of how many, before each file and
            once at the end with an empty label.

    Raises:
        UsageError: the model or the images cannot be used. Nothing was written.
    """
    check_calibration(calibration, size_px)
    made: dict[str, ExportedFile] = {}
    steps: list[tuple[Runtime, Precision, Callable[[], bytes]]] = [
        ("onnxruntime", "fp32", lambda: export_onnx_fp32(model, size_px)),
        (
            "onnxruntime",
            "int8",
            lambda: export_onnx_int8(made["onnxruntime/fp32"].blob, calibration),
        ),
        ("litert", "fp32", lambda: export_tflite_fp32(model, size_px)),
        ("litert", "fp16", lambda: export_tflite_fp16(made["litert/fp32"].blob)),
        ("litert", "int8", lambda: export_tflite_int8(made["litert/fp32"].blob, calibration)),
    ]
    for done, (runtime, precision, export) in enumerate(steps):
        progress(f"{runtime}/{precision}", done, len(steps))
        file = ExportedFile(runtime, precision, export())
        made[file.label] = file
    progress("", len(steps), len(steps))
    return tuple(made.values())
