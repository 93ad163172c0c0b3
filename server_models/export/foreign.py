"""An ONNX file that somebody else exported, as the files of this project are."""

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from compat.errors import ConfigError

IMAGE, FOREIGN = "image", "image_channels_first"


def with_channels_last(blob: bytes) -> bytes:
    """image (N, S, S, 3) -> embedding: a transposition before a graph that wants channels first.

    Raises:
        ConfigError: no ONNX file, weights outside it, or another number of inputs and outputs.
    """
    proto = _parsed(blob)
    graph = proto.graph
    [image] = graph.input
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    if shape[1] != 3:
        return blob
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == image.name:
                node.input[place] = FOREIGN
    turn = helper.make_node("Transpose", [IMAGE], [FOREIGN], perm=[0, 3, 1, 2])
    graph.node.insert(0, turn)
    first = helper.make_tensor_value_info(
        IMAGE, TensorProto.FLOAT, ["n", shape[2], shape[3], shape[1]]
    )
    del graph.input[:]
    graph.input.append(first)
    onnx.checker.check_model(proto, full_check=True)
    changed: bytes = proto.SerializeToString(deterministic=True)
    return changed


def count_onnx_params(blob: bytes) -> int:
    """Numbers in the float tensors of the graph. Raises ConfigError as `with_channels_last`."""
    total = 0
    for tensor in _parsed(blob).graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            count = 1
            for dim in tensor.dims:
                count *= dim
            total += count
    return max(1, total)


def _parsed(blob: bytes) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(blob)
        initial = {tensor.name for tensor in proto.graph.initializer}
        inputs = [each for each in proto.graph.input if each.name not in initial]
        if len(inputs) != 1 or len(proto.graph.output) != 1:
            raise ConfigError("the gallery model's ONNX file must have one input and one output")
    except DecodeError as error:
        raise ConfigError(f"the gallery model is no ONNX file: {error}") from error
    if any(onnx.external_data_helper.uses_external_data(each) for each in proto.graph.initializer):
        raise ConfigError("the gallery model's weights lie outside its ONNX file: export it as one")
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    return proto
