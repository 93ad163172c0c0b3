"""The latency table: it times the layer, and a search that goes on sees the same numbers."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from server_models.architecture import Architecture, Layer
from server_models.edge_net import InvertedResidual
from server_models.latency import LatencyTable, layer_graph

NET = Architecture(
    stem=4,
    layers=(Layer(expand=1, channels=8, stride=2), Layer(expand=3, channels=8, kernel=5)),
    features=8,
    size_px=32,
)


def test_a_timed_graph_has_the_shape_and_weights_of_its_layer() -> None:
    for into, layer in ((4, NET.layers[0]), (8, NET.layers[1])):
        session = ort.InferenceSession(layer_graph(into, layer, 15))
        image = np.ones((1, into, 15, 15), np.float32)
        [found] = session.run(None, {"x": image})
        block = InvertedResidual(into, layer.channels, layer.stride, layer.expand, layer.kernel)
        wanted = block(torch.from_numpy(image))
        assert found.shape == tuple(wanted.shape)


def test_a_layer_is_measured_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    first = LatencyTable(path).of(NET)
    kept = path.read_bytes()
    assert first > 0
    assert LatencyTable(path).of(NET) == first
    assert path.read_bytes() == kept
