"""What a device must never need: in this interpreter, and in a fresh device-only install."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

REPO = Path(__file__).parents[2]
SOURCES = ("compat", "edge", "registry", "server_models")
CLOUD_ONLY = (
    *("torch", "scipy", "lancedb", "fastapi", "uvicorn", "matplotlib", "jinja2", "boto3"),
    *("onnx", "pyarrow", "kornia", "litert_torch", "ai_edge_quantizer", "jax"),
)
EVERY_MODULE = """
import importlib, json, pkgutil, sys
sys.modules["boto3"] = None  # securesystemslib takes it for KMS keys where it finds it
import edge
names = [each.name for each in pkgutil.walk_packages(edge.__path__, "edge.")]
for name in names:
    importlib.import_module(name)
found = {name.split(".")[0] for name, module in sys.modules.items() if module}
print(json.dumps([names, sorted(found)]))
"""


def run(*command, **how):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **how)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_module_of_edge_leaves_the_clouds_packages_out():
    names, loaded = json.loads(run(sys.executable, "-W", "error", "-c", EVERY_MODULE))
    assert {"edge.embedder", "edge.footprint", "edge.runtimes.litert"} <= set(names)
    assert sorted(set(CLOUD_ONLY) & set(loaded)) == []


def test_the_runtimes_are_imported_only_when_a_file_is_opened():
    _, loaded = json.loads(run(sys.executable, "-c", EVERY_MODULE))
    assert {"onnxruntime", "ai_edge_litert"} & set(loaded) == set()


EMBED_ONE = """
import sys
from pathlib import Path
import numpy as np
from compat.preprocess import Preprocess
from edge.embedder import open_embedder
embedder = open_embedder(Path(sys.argv[1]), "onnxruntime", Preprocess(size_px=16), 4)
rows = embedder.embed_images([Path(sys.argv[2]).read_bytes()])
print(rows.shape, float(np.linalg.norm(rows)))
"""


def tiny_onnx():
    """Mean colour of (n, 16, 16, 3), then a product with (3, 4)."""
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weight"], ["embedding"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.array([1, 2]), "axes"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A virtual environment with kinspace[device] and nothing else; the folder of its commands."""
    root = tmp_path_factory.mktemp("device")
    source = root / "source"  # a copy: building in place would leave files in the repository
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPO / name, source / name, ignore=ignored)
    for file in ("pyproject.toml", "LICENSE"):
        shutil.copy(REPO / file, source)
    (source / "README.md").write_text("kinspace\n")  # its words do not matter here
    run(sys.executable, "-m", "venv", "--without-pip", root / "venv")
    commands = root / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    there = ("--python", commands / "python")
    run(*pip, *there, "install", "--no-compile", f"{source}[device]", cwd=root)
    return commands


@pytest.mark.venv
def test_a_device_only_install_imports_helps_and_embeds(device, tmp_path):
    def python(*arguments):
        return run(device / "python", *arguments, cwd=tmp_path)

    absent = f"import importlib.util as u; print([n for n in {CLOUD_ONLY} if u.find_spec(n)])"
    assert python("-c", absent).strip() == "[]"
    names, _ = json.loads(python("-c", EVERY_MODULE))
    assert {"edge.embedder", "edge.runtimes.onnx"} <= set(names)
    assert "Usage" in run(device / "kinspace", "--help", cwd=tmp_path)

    from PIL import Image

    Image.new("RGB", (20, 30), (200, 120, 40)).save(tmp_path / "one.png")
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx())
    shape, norm = python("-c", EMBED_ONE, "tiny.onnx", "one.png").rsplit(" ", 1)
    assert shape == "(1, 4)"
    assert float(norm) == pytest.approx(1, abs=1e-6)
