"""Faults are planted where they say, and the study of false alarms can itself be wrong."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from benchmarks.false_alarms import Count, drawn_set
from benchmarks.faulty_models import NoAntialias, SwappedChannels, edited
from benchmarks.tables import publish_table
from compat.preprocess import Preprocess


def image():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_swapped_channels_are_the_recipe_backwards():
    right, wrong = Preprocess(size_px=32), SwappedChannels(size_px=32)
    assert np.array_equal(wrong.fitted(image())[..., ::-1], right.fitted(image()))


def test_no_antialias_takes_single_pixels():
    """Sampled noise keeps its spread; an antialiased resize averages it away."""
    right, wrong = Preprocess(size_px=16, fit="crop"), NoAntialias(size_px=16, fit="crop")
    assert right.fitted(image()).std() < 40 < wrong.fitted(image()).std()


def last_layer() -> bytes:
    weight = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    bias = onnx.numpy_helper.from_array(np.ones(2, np.float32), "b")
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    x = onnx.helper.make_tensor_value_info("x", 1, ["n", 3])
    y = onnx.helper.make_tensor_value_info("y", 1, ["n", 2])
    graph = onnx.helper.make_graph([node], "g", [x], [y], [weight, bias])
    return onnx.helper.make_model(graph).SerializeToString()


def test_an_edit_changes_the_last_layer_alone():
    blob = edited(last_layer(), lambda w, b: (3 * w, b + 1))
    found = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load_model_from_string(blob).graph.initializer
    }
    assert np.array_equal(found["w"], np.full((2, 3), 3, np.float32))
    assert np.array_equal(found["b"], np.full(2, 2, np.float32))


def test_a_planted_loss_is_what_it_says():
    sets = [drawn_set(np.random.default_rng(seed), 0.05) for seed in range(40)]
    gap = np.mean([b.mean() - a.mean() for a, b, _ in sets])
    assert gap == pytest.approx(-0.05, abs=0.004)


def test_a_rate_far_from_what_was_announced_disagrees():
    assert Count(3, 50, 0.05).within_chance
    assert not Count(15, 50, 0.05).within_chance


def test_a_table_is_the_same_for_people_and_machines(tmp_path):
    rows = [{"what": "a|b", "seconds": 1.5, "ok": True, "none": None}]
    publish_table("t", "Title", rows, notes=("A note.",), out=tmp_path)
    assert "| a/b | 1.5000 | yes | – |" in (tmp_path / "t.md").read_text()
    assert json.loads((tmp_path / "t.json").read_text())["rows"] == rows
