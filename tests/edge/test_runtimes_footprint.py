"""The cost of an artifact is measured in a process of its own."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compat.errors import CorruptError, UntrustedError, UsageError
from compat.preprocess import Preprocess
from edge import footprint

RECIPE = Preprocess(size_px=16, fit="crop")


def onnx_file(extra_bytes=0):
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "weight")
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    ballast = numpy_helper.from_array(np.ones(extra_bytes // 4 + 1, np.float32), "ballast")
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["product"]),
        helper.make_node("Identity", ["ballast"], ["kept"]),
        helper.make_node("ReduceMax", ["kept"], ["one"], keepdims=0),
        helper.make_node("Mul", ["product", "one"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [axes, weight, ballast],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "tiny.onnx"
    file.write_bytes(onnx_file())
    return file


def test_memory_is_of_a_process_that_holds_only_the_model(path):
    """This process holds torch or onnx and far more than what the child reports."""
    ballast = np.ones(300 * 2**20, np.uint8)  # 300 MiB that must not be counted
    found = footprint.measure(path, "onnxruntime", RECIPE, 4, 20)
    assert 0 < found.latency_ms_p50 <= found.latency_ms_p95
    assert found.load_ms > 0
    assert 20 * 2**20 < found.resident_bytes < 250 * 2**20
    assert ballast[-1] == 1


def test_threads_reach_the_process_that_measures(path, monkeypatch):
    asked = []
    real = footprint.subprocess.run
    monkeypatch.setattr(
        footprint.subprocess,
        "run",
        lambda command, **how: asked.append(command) or real(command, **how),
    )
    assert footprint.measure(path, "onnxruntime", RECIPE, 4, 2, threads=2).latency_ms_p50 > 0
    assert asked[0][-2:] == ["2", "2"]
    arguments = [str(path), "onnxruntime", RECIPE.model_dump_json(), "4", "2", "0"]
    assert footprint.main(arguments) == UsageError.exit_code


def test_refusals_arrive_by_class_and_before_a_process_is_started(path, tmp_path, monkeypatch):
    monkeypatch.setattr(footprint.subprocess, "run", None)
    with pytest.raises(UsageError, match="runs must be at least 1, got 0"):
        footprint.measure(path, "onnxruntime", RECIPE, 4, 0)
    with pytest.raises(UntrustedError, match="gives 4 dimensions, its manifest says 5"):
        footprint.measure(path, "onnxruntime", RECIPE, 5, 1)
    path.write_bytes(b"spoilt")
    with pytest.raises(CorruptError):
        footprint.measure(path, "onnxruntime", RECIPE, 4, 1)


def test_a_measurement_that_never_ends_is_stopped(path, monkeypatch):
    monkeypatch.setattr(footprint, "_TIMEOUT_S", 0.05)
    with pytest.raises(UsageError, match="ask for fewer runs than 5"):
        footprint.measure(path, "onnxruntime", RECIPE, 4, 5)


def test_the_module_says_what_is_wrong_and_exits_with_its_code(path, capsys):
    arguments = [str(path), "onnxruntime", RECIPE.model_dump_json(), "5", "1"]
    assert footprint.main(arguments) == UntrustedError.exit_code
    assert "gives 4 dimensions" in capsys.readouterr().err
    arguments[2] = "{}"
    assert footprint.main(arguments) == UsageError.exit_code
    with pytest.raises(SystemExit) as stopped:
        footprint.main([str(path), "tensorrt", "{}", "4", "1"])
    assert stopped.value.code == 2
