"""TFLite files: float32 by litert-torch, then fp16 and int8 by ai-edge-quantizer.

The quantiser's calibrator is only half public; its version is pinned with litert-torch's. All three
packages are imported at the first call: they bring jax and take seconds.
"""

import contextlib
import io
import warnings
from typing import Any

import torch
from torch import nn

from compat.errors import UsageError
from compat.preprocess import Floats
from server_models.export.calibration import FLOAT_CONVOLUTIONS, check_calibration, feeds
from server_models.export.graph import checked_graph
from server_models.export.quiet import quiet

SIGNATURE = "embed"


def export_tflite_fp32(model: nn.Module, size_px: int) -> bytes:
    """``model`` (N, 3, S, S) -> (N, D) as a TFLite file: image (1, S, S, 3) -> embedding (1, D).

    Batch norms and activations are fused, tensors are named by their place and not by the classes
    of this machine, and equal weights give equal bytes.

    Raises:
        UsageError: a weight is not finite, the shapes do not fit (see `checked_graph`), or the
            converter does not know an operator.
    """
    graph = checked_graph(model, size_px)
    with quiet():
        import litert_torch

        sample = {"image": torch.zeros(1, size_px, size_px, 3)}
        try:
            converted = litert_torch.signature(SIGNATURE, graph, sample_kwargs=sample).convert()
        except (RuntimeError, TypeError, ValueError, KeyError, NotImplementedError) as error:
            raise UsageError(f"litert-torch cannot convert this model: {error}") from error
        return _renamed(converted.model_content())


def export_tflite_fp16(fp32: bytes) -> bytes:
    """A float32 file of `export_tflite_fp32` with its weights in half precision, float in and out.

    Raises:
        UsageError: a weight is outside half precision, or the file is not from
            `export_tflite_fp32`.
    """
    _size_px(fp32)
    with quiet():
        warnings.filterwarnings("error", "overflow encountered", RuntimeWarning)
        from ai_edge_quantizer import qtyping, quantizer

        half = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        recipe = quantizer.Quantizer(fp32)
        recipe.update_quantization_recipe(
            ".*",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            half,
            quantizer.AlgorithmName.FLOAT_CASTING,
        )
        try:
            return _quantized(recipe, None)
        except RuntimeWarning as error:
            raise UsageError(f"a weight is beyond half precision, 65504: {error}") from error


def export_tflite_int8(fp32: bytes, calibration: Floats) -> bytes:
    """A float32 file of `export_tflite_fp32` as static int8, float in and out.

    The first `FLOAT_CONVOLUTIONS` stay float.

    Args:
        fp32: the file.
        calibration: (N, S, S, 3) float32, real images after the recipe.

    Raises:
        UsageError: the images are unusable, or the file is not from `export_tflite_fp32`.
    """
    check_calibration(calibration, _size_px(fp32))
    with quiet():
        from ai_edge_quantizer import calibrator, qtyping, quantizer
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        recipe = quantizer.Quantizer(fp32)
        operations = qtyping.TFLOperationName
        recipe.add_static_config(".*", operations.ALL_SUPPORTED, 8, 8)
        for rim in (operations.INPUT, operations.OUTPUT):  # browsers refuse integers here
            recipe.update_quantization_recipe(
                ".*", rim, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
            )
        for name in _convolutions(fp32)[:FLOAT_CONVOLUTIONS]:
            recipe.update_quantization_recipe(
                f"^{name};$",  # what an operator writes is its name here
                operations.ALL_SUPPORTED,
                algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
            )
        ranges = calibrator.Calibrator(
            fp32,
            num_threads=1,
            mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
            qsv_update_func=min_max_update,  # the default is a moving average, which clips
        )
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar has no switch
            ranges.calibrate({SIGNATURE: list(feeds(calibration))}, recipe._recipe_manager)
        return _quantized(recipe, ranges.get_model_qsvs())


def _quantized(recipe: Any, ranges: dict[str, Any] | None) -> bytes:
    return bytes(recipe.quantize(ranges, enable_progress_report=False).quantized_model)


def _size_px(fp32: bytes) -> int:
    """Side of the images that a file of `export_tflite_fp32` takes."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=fp32, num_threads=1)
        signatures = interpreter.get_signature_list()
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"not a file of export_tflite_fp32: {error}") from error
    if signatures != {SIGNATURE: {"inputs": ["image"], "outputs": ["embedding"]}}:
        raise UsageError(f"not a file of export_tflite_fp32: its signatures are {signatures}")
    return int(interpreter.get_input_details()[0]["shape"][1])


def _convolutions(blob: bytes) -> list[str]:
    """What each convolution writes, in the order in which they run."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(blob)
    [graph] = model.subgraphs
    kinds = (BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D)
    codes = [code.builtinCode for code in model.operatorCodes]
    return [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if codes[operator.opcodeIndex] in kinds
    ]


def _renamed(blob: bytes) -> bytes:
    """The file with its tensors named by place: the quantiser needs names, nobody needs ours."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(blob)
    model.description = None
    for subgraph in model.subgraphs:
        for place, tensor in enumerate(subgraph.tensors):
            tensor.name = f"t{place}"
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
