"""``kinspace diagnose`` as a user runs it, on a member exported from fresh weights."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from compat.dataset import read_dataset
from compat.images import read_image
from compat.preprocess import Floats
from registry.candidate import CandidateFolder
from registry.cli import app
from registry.diagnosing import spread
from registry.gallery_build import build_from_dataset
from registry.judging import embedder_of
from server_models.config import read_family
from server_models.export import export_onnx_fp32, export_onnx_int8

S, D = 32, 16


@pytest.fixture(scope="module")
def home(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family of shapes with an exported member, an exported cloud model and a gallery."""
    home = tmp_path_factory.mktemp("diagnose")
    shutil.copytree(shapes, home, dirs_exist_ok=True)
    config = read_family(home / "shapes.toml")
    dataset = read_dataset(config.data.path)
    recipe = config.members[0].preprocess
    for name in ("edge", config.cloud.name):
        torch.manual_seed(len(name))
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 5, 4),
            torch.nn.ReLU6(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 7 * 7, D),
        ).eval()
        fp32 = export_onnx_fp32(net, S)
        train = [recipe.tensor(read_image(each.path)) for each in dataset.of("train", "query")]
        folder = CandidateFolder(home / "runs" / "artifacts" / name)
        exported = {("onnxruntime", "fp32"): fp32}
        if name == "edge":
            exported["onnxruntime", "int8"] = export_onnx_int8(fp32, np.stack(train))
        model = folder.write(name=name, preprocess=recipe, macs=1, params=1, exported=exported)
        queries = [recipe.tensor(read_image(q.path)) for q in dataset.of("test", "query")]
        with torch.no_grad():
            rows = net(torch.from_numpy(np.stack(queries)).permute(0, 3, 1, 2)).numpy()
        folder.write_reference(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        artifact = model.artifacts[0]
        embedder = embedder_of(folder, model, artifact, config.space)
        build_from_dataset(
            home / "gallery" / name, dataset, embedder, space=config.space,
            model_digest=artifact.digest,
        )  # fmt: skip
    return home


def diagnose(home: Path, *arguments: str) -> tuple[int, str]:
    call = ["diagnose", str(home / "shapes.toml"), "--out", str(home / "runs"), *arguments]
    done = CliRunner().invoke(app, call)
    return done.exit_code, done.output


def found_of(home: Path, *arguments: str) -> dict[str, object]:
    call = ["diagnose", str(home / "shapes.toml"), "--out", str(home / "runs"), "--json"]
    done = CliRunner().invoke(app, [*call, *arguments])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def tensors(home: Path, n: int) -> Floats:
    config = read_family(home / "shapes.toml")
    queries = read_dataset(config.data.path).of("test", "query")
    recipe = config.members[0].preprocess
    return np.stack([recipe.tensor(read_image(queries[i].path)) for i in spread(len(queries), n)])


def test_a_sound_chain_has_no_first_difference(home: Path) -> None:
    cloud = read_family(home / "shapes.toml").cloud.name
    found = found_of(home, "--gallery", str(home / "gallery" / cloud))
    assert found["first"] is None
    assert [stage["stage"] for stage in found["stages"]] == [
        "edge onnxruntime/fp32", "edge onnxruntime/int8", "index",
    ]  # fmt: skip
    assert found["layers"][0]["measured"] >= 2


def test_rows_of_another_model_are_named_as_the_index(home: Path) -> None:
    found = found_of(home, "--gallery", str(home / "gallery" / "edge"))
    assert found["first"] == "index"


def test_an_app_that_swaps_channels_is_told_so(home: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "app.npy", tensors(home, 5)[..., ::-1])
    code, words = diagnose(home, "--suspect", str(tmp_path / "app.npy"))
    assert code == 0
    assert "RGB and BGR swapped" in words
    assert "first difference: decode" in words


@pytest.mark.parametrize("blob", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_exit_2(blob: bytes, home: Path, tmp_path: Path) -> None:
    (tmp_path / "app.npy").write_bytes(blob)
    before = _digests(home)
    code, words = diagnose(home, "--suspect", str(tmp_path / "app.npy"))
    assert code == 2
    assert "numpy.save" in words
    assert _digests(home) == before


def test_an_unknown_artifact_is_exit_2(home: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "app.npy", tensors(home, 2))
    code, words = diagnose(home, "--suspect", str(tmp_path / "app.npy"), "--artifact", "x")
    assert code == 2
    assert "onnxruntime/int8" in words


def _digests(home: Path) -> dict[Path, str]:
    files = (path for path in home.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
