"""Places of tensors: what lies there are the tensor's very bytes."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compat.delta import pack_tensors, pack_whole, unpack
from compat.files import digest_of
from compat.manifest import Blob
from registry.deltas import pack_smallest
from registry.tensor_layout import segments_of, tensors_of
from server_models.export import export_tflite_fp32


def onnx_file(weights: np.ndarray, *, name: str = "w", extra: int = 0) -> bytes:
    rng = np.random.default_rng(5)
    held = [
        numpy_helper.from_array(rng.integers(-9, 9, 300, dtype=np.int8), "q"),
        numpy_helper.from_array(weights, name),
        numpy_helper.from_array(np.float32(1), "tiny"),
        *(numpy_helper.from_array(rng.normal(size=99), f"e{i}") for i in range(extra)),
    ]
    node = helper.make_node("Identity", [name], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, weights.shape)
    graph = helper.make_graph([node], "g", [], [out], held)
    return helper.make_model(graph).SerializeToString()


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(40, 50)).astype(np.float32)


def test_onnx_tensors_lie_where_it_says():
    blob = onnx_file(weights(0))
    found = {each.name: each for each in tensors_of(blob, "onnxruntime")}
    assert found.keys() == {"w", "q"}, "a scalar stays with what lies around it"
    raw = {each.name: each.raw_data for each in onnx.load_from_string(blob).graph.initializer}
    for name, tensor in found.items():
        assert blob[tensor.start : tensor.end] == raw[name]
    assert (found["w"].width, found["q"].width) == (4, 1)


@pytest.fixture(scope="module")
def tflite_files() -> tuple[bytes, bytes]:
    """A small network, and the same one with its weights moved a little."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(16, 64)).eval()  # fmt: skip
    old = export_tflite_fp32(net, 16)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 1e-4 * torch.randn_like(parameter)
    return old, export_tflite_fp32(net, 16)


def test_tflite_tensors_lie_where_it_says(tflite_files):
    from ai_edge_litert.tools import flatbuffer_utils

    blob = tflite_files[0]
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(blob))
    stored = [b.data.tobytes() for b in model.buffers if b.data is not None and len(b.data) >= 64]
    found = tensors_of(blob, "litert")
    assert 16 * 27 in [each.count for each in found]
    for tensor in found:
        assert blob[tensor.start : tensor.end] in stored
        assert tensor.width == 4


def test_moved_weights_cost_less_than_new_ones(tflite_files):
    old, new = tflite_files
    method, packed = pack_smallest(old, new, "litert")
    assert method == "tensors"
    assert len(packed) < 0.75 * len(pack_whole(new))
    assert unpack(packed, old, result=Blob(digest=digest_of(new), size_bytes=len(new))) == new


@pytest.mark.parametrize(
    "new",
    [
        onnx_file(weights(1)),
        onnx_file(weights(1), name="renamed"),
        onnx_file(weights(1)[:30]),
        onnx_file(weights(1), extra=3),
        b"",
        b"no model",
        onnx_file(weights(1))[:-700],
    ],
)
def test_any_two_files_are_told_along_one_another(new):
    """Renamed, reshaped, with more tensors, or no model at all."""
    for old in (onnx_file(weights(0)), b"", b"something else"):
        segments = segments_of(old, new, "onnxruntime")
        assert sum(each.size_bytes for each in segments) == len(new)
        packed = pack_tensors(old, new, segments)
        named = Blob(digest=digest_of(new), size_bytes=len(new))
        assert unpack(packed, old, result=named) == new


def test_equal_tensors_are_found_though_others_came_between():
    old, new = onnx_file(weights(0)), onnx_file(weights(0), extra=2)
    segments = segments_of(old, new, "onnxruntime")
    assert len(pack_tensors(old, new, segments)) < 0.3 * len(pack_whole(new))
