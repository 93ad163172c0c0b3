"""ONNX files: float32 by torch's exporter, int8 by ONNX Runtime's static quantisation."""

import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import nn

from compat.errors import UsageError
from compat.preprocess import Floats
from server_models.export.calibration import FLOAT_CONVOLUTIONS, check_calibration, feeds
from server_models.export.graph import checked_graph
from server_models.export.quiet import quiet


def export_onnx_fp32(model: nn.Module, size_px: int) -> bytes:
    """``model`` (N, 3, S, S) -> (N, D) as one ONNX file: image (N, S, S, 3) -> embedding (N, D).

    The batch is dynamic, batch norms are folded, nothing of this machine is left in the file, and
    equal weights give equal bytes.

    Raises:
        UsageError: a weight is not finite, the shapes do not fit (see `checked_graph`), or the
            exporter does not know an operator.
    """
    graph = checked_graph(model, size_px)
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                kwargs={"image": torch.zeros(2, size_px, size_px, 3)},
                input_names=["image"],
                output_names=["embedding"],
                dynamic_shapes={"image": {0: torch.export.Dim("n")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UsageError(f"the ONNX exporter cannot convert this model: {error}") from error
    if program is None:  # only torch's older exporter gives none
        raise RuntimeError("torch.onnx.export gave no program")
    return _bare(program.model_proto)


def export_onnx_int8(fp32: bytes, calibration: Floats) -> bytes:
    """A float32 file of `export_onnx_fp32` as int8, float in and out.

    QDQ form, activations unsigned with one scale a tensor, weights signed with one scale a channel,
    ranges the true minima and maxima over ``calibration``; the first `FLOAT_CONVOLUTIONS` stay
    float.

    Args:
        fp32: the file.
        calibration: (N, S, S, 3) float32, real images after the recipe.

    Raises:
        UsageError: the images are unusable, or the file is not from `export_onnx_fp32`.
    """
    proto = _parsed(fp32)
    check_calibration(calibration, proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    # says that shapes need no inference first: the exporter wrote them, batch norms are folded
    onnx.helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(proto.SerializeToString())
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=convolutions[:FLOAT_CONVOLUTIONS],
        )
        return _bare(onnx.load(target))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: Floats) -> None:
        self._feeds = feeds(images)

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._feeds, None)


def _parsed(blob: bytes) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(blob)
        proto = onnx.load_model_from_string(blob)
        [image] = proto.graph.input
        [embedding] = proto.graph.output
    except (ValueError, onnx.checker.ValidationError) as error:
        raise UsageError(f"not a file of export_onnx_fp32: {error}") from error
    if (image.name, embedding.name) != ("image", "embedding"):
        raise UsageError(f"not a file of export_onnx_fp32: {image.name} -> {embedding.name}")
    return proto


def _bare(proto: onnx.ModelProto) -> bytes:
    """The file without source paths, stack traces and remarks, checked; one spelling."""
    graph = proto.graph
    holders: list[Any] = [proto, graph, *graph.node, *graph.initializer]
    holders += [*graph.input, *graph.output, *proto.functions]
    for holder in holders:
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    graph.ClearField("value_info")
    if any(onnx.external_data_helper.uses_external_data(each) for each in graph.initializer):
        raise RuntimeError("the exporter left weights outside the file")
    onnx.checker.check_model(proto, full_check=True)
    blob: bytes = proto.SerializeToString(deterministic=True)
    return blob
