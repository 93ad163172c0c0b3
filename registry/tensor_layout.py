"""Where the weights lie in a model file: name, place, count and width of every tensor in it.

ONNX is read as the protobuf wire format has it, TFLite by its flatbuffer schema: only both tell
places. A file that is neither has no tensors, which is an answer as well.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compat.delta import Segment
from compat.manifest import Runtime

MIN_BYTES = 64  # smaller ones stay with what lies around them
# Data types -> width in bytes. onnx.proto TensorProto.DataType, tflite schema.fbs TensorType.
ONNX_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 10: 2, 12: 4, 16: 2}
TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 3: 1, 7: 2, 9: 1, 15: 4}
MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 2, 8, 9


@dataclass(frozen=True)
class Tensor:
    """``count`` numbers of ``width`` bytes at ``start`` of a file."""

    name: str
    start: int
    count: int
    width: int

    @property
    def end(self) -> int:
        return self.start + self.count * self.width


def tensors_of(blob: bytes, runtime: Runtime | None) -> list[Tensor]:
    """Every tensor of `MIN_BYTES` or more that the file holds, in the order in which they lie."""
    if runtime is None:
        return []
    try:
        found = list(_in_onnx(blob) if runtime == "onnxruntime" else _in_tflite(blob))
    except (IndexError, struct.error, UnicodeDecodeError, ValueError):
        return []
    large = sorted(
        (each for each in found if each.end - each.start >= MIN_BYTES), key=lambda each: each.start
    )
    ends = [0, *itertools.accumulate((each.end for each in large), max)]
    return [each for each, end in zip(large, ends, strict=False) if each.start >= end]


def segments_of(base: bytes, result: bytes, runtime: Runtime | None) -> list[Segment]:
    """How ``result`` is told along ``base``: equal-named tensors of one size by one another.

    What lies between two tensors is told by what lies there in ``base`` when it is as long.
    """
    old = {(each.name, each.count, each.width): each for each in tensors_of(base, runtime)}
    before = {each.start: each for each in _gaps(list(old.values()), len(base))}
    segments: list[Segment] = []
    place = last = 0  # where we are in the result, and where the base is beside it
    for tensor in tensors_of(result, runtime):
        twin = old.get((tensor.name, tensor.count, tensor.width))
        segments += _between(place, tensor.start, last, before)
        segments.append(Segment(twin.start if twin else None, tensor.count, tensor.width))
        place, last = tensor.end, twin.end if twin else -1
    return segments + _between(place, len(result), last, before)


def _between(start: int, end: int, beside: int, before: dict[int, Tensor]) -> list[Segment]:
    """The bytes of the result between two tensors."""
    if start == end:
        return []
    twin = before.get(beside)
    same = twin is not None and twin.count == end - start
    return [Segment(beside if same else None, end - start, 1)]


def _gaps(tensors: list[Tensor], size_bytes: int) -> Iterator[Tensor]:
    place = 0
    for tensor in [*sorted(tensors, key=lambda each: each.start), None]:
        end = tensor.start if tensor else size_bytes
        if end > place:
            yield Tensor("", place, end - place, 1)
        place = tensor.end if tensor else place


def _in_onnx(blob: bytes) -> Iterator[Tensor]:
    for field, start, end in _fields(blob, 0, len(blob)):
        if field != MODEL_GRAPH:
            continue
        for inner, first, last in _fields(blob, start, end):
            if inner == GRAPH_INITIALIZER and (tensor := _onnx_tensor(blob, first, last)):
                yield tensor


def _onnx_tensor(blob: bytes, start: int, end: int) -> Tensor | None:
    places = {field: (first, last) for field, first, last in _fields(blob, start, end)}
    if not {TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW} <= places.keys():
        return None
    kind, _ = _varint(blob, places[TENSOR_TYPE][0])
    width = ONNX_WIDTHS.get(kind)
    first, last = places[TENSOR_RAW]
    if width is None or (last - first) % width:
        return None
    name = slice(*places[TENSOR_NAME])
    return Tensor(blob[name].decode(), first, (last - first) // width, width)


def _fields(blob: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message (protobuf.dev, encoding)."""
    while place < end:
        key, place = _varint(blob, place)
        match key & 7:
            case 0:
                _, after = _varint(blob, place)
            case 1:
                after = place + 8
            case 2:
                size, place = _varint(blob, place)
                after = place + size
            case 5:
                after = place + 4
            case _:
                raise ValueError("not a protobuf message")
        if after > end:
            raise ValueError("not a protobuf message")
        yield key >> 3, place, after
        place = after


def _varint(blob: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = blob[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place


def _in_tflite(blob: bytes) -> Iterator[Tensor]:
    from ai_edge_litert.schema_py_generated import Model

    if blob[4:8] != b"TFL3":
        return
    whole = np.frombuffer(blob, np.uint8)
    origin = whole.__array_interface__["data"][0]
    model, seen = Model.GetRootAs(blob, 0), set()
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
            width, buffer = TFLITE_WIDTHS.get(tensor.Type()), model.Buffers(tensor.Buffer())
            if width is None or tensor.Buffer() in seen or not buffer.DataLength():
                continue
            seen.add(tensor.Buffer())
            data = buffer.DataAsNumpy()
            start = int(data.__array_interface__["data"][0]) - origin
            if data.size % width == 0 and 0 <= start <= len(blob) - data.size:
                yield Tensor(tensor.Name().decode(), start, data.size // width, width)
