"""What each layer of an edge network takes on ONNX Runtime here: measured once, added up.

A layer is timed by itself, as a small ONNX graph on one thread; the network's latency is their sum.
That leaves out what running them together saves or costs, which is the same for all candidates.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from compat.files import read_bounded, write_atomic
from compat.wire import canonical_json
from server_models.architecture import Architecture, Layer

MAX_TABLE_BYTES = 2**24
WARM_UP, RUNS = 5, 30


class LatencyTable:
    """Layer shape -> milliseconds, kept in a file so that a search that goes on sees the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ms: dict[str, float] = {}
        if path.exists():
            self._ms = json.loads(read_bounded(path, MAX_TABLE_BYTES))

    def of(self, net: Architecture) -> float:
        """Milliseconds for one image; measures what the table does not hold yet."""
        into, side = net.stem, net.size_px // 2
        total, known = 0.0, len(self._ms)
        for layer in net.layers:
            key = f"{into}>{layer.channels} x{layer.expand} k{layer.kernel} s{layer.stride} @{side}"
            if key not in self._ms:
                self._ms[key] = _measure_ms(into, layer, side)
            total += self._ms[key]
            into, side = layer.channels, -(-side // layer.stride)
        if len(self._ms) > known:
            write_atomic(self.path, canonical_json(self._ms))
        return total


def _measure_ms(into: int, layer: Layer, side: int) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        layer_graph(into, layer, side), options, providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).normal(size=(1, into, side, side)).astype(np.float32)
    taken = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        session.run(None, {"x": image})
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken[WARM_UP:]) * 1e3, 5)


def layer_graph(into: int, layer: Layer, side: int) -> bytes:
    """An inverted residual, batch norms folded, as an ONNX file on (1, into, side, side)."""
    rng = np.random.default_rng(0)
    wide = into * layer.expand
    nodes: list[Any] = []
    weights: list[Any] = []
    for name, value in (("zero", 0.0), ("six", 6.0)):
        weights.append(numpy_helper.from_array(np.array(value, np.float32), name))

    def conv(source: str, name: str, shape: tuple[int, ...], stride: int, group: int) -> str:
        values = rng.normal(size=shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}_w"))
        weights.append(numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{name}_b"))
        rim = [shape[-1] // 2] * 4
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}_w", f"{name}_b"],
                [name],
                kernel_shape=[shape[-1]] * 2,
                strides=[stride] * 2,
                pads=rim,
                group=group,
            )
        )
        return name

    def relu6(source: str) -> str:
        nodes.append(helper.make_node("Clip", [source, "zero", "six"], [f"{source}_r"]))
        return f"{source}_r"

    last = "x"
    if layer.expand != 1:
        last = relu6(conv(last, "expand", (wide, into, 1, 1), 1, 1))
    kernel = (wide, 1, layer.kernel, layer.kernel)
    last = relu6(conv(last, "depthwise", kernel, layer.stride, wide))
    last = conv(last, "project", (layer.channels, wide, 1, 1), 1, 1)
    if layer.stride == 1 and into == layer.channels:
        nodes.append(helper.make_node("Add", ["x", last], ["sum"]))
        last = "sum"
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, into, side, side])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    blob: bytes = model.SerializeToString()
    return blob
