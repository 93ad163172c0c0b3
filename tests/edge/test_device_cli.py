"""The verbs of ``kinspace device`` and ``kinspace keys``: results, errors, exit codes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from compat.embedding import unit_rows
from compat.errors import OfflineError, RefusedError, UntrustedError, UsageError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import (
    Artifact,
    Blob,
    Channel,
    Member,
    Model,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from registry.cli import device_app  # with the verbs that have modules of their own
from registry.cli_errors import exits
from registry.cli_publish import keys_app
from registry.keys import KeyFolder
from registry.repository import Repository

RUN = CliRunner()


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    found = RUN.invoke(keys_app, ["init", str(tmp_path / "registry"), "--family", "furniture"])
    assert found.exit_code == 0, found.output
    return tmp_path / "registry"


def init(registry: Path, *more: str):
    home, root = registry.parent / "home", registry.parent / "registry-keys" / "root.json"
    named = {"--home": home, "--registry": registry, "--root": root, "--family": "furniture"}
    words = [str(word) for pair in named.items() for word in pair]
    return RUN.invoke(device_app, ["init", *words, *more])


def test_keys_init_says_where_the_root_is_and_may_be_repeated(registry):
    again = RUN.invoke(keys_app, ["init", str(registry), "--family", "shoes", "--json"])
    made = json.loads(again.stdout)
    assert made["families"] == ["furniture", "shoes"]
    assert Path(made["root"]).read_bytes() == (registry / "metadata/1.root.json").read_bytes()
    assert not list(registry.rglob("*.pem"))


def test_keys_refresh_says_when_each_role_expires(registry):
    found = RUN.invoke(keys_app, ["refresh", str(registry), "--json"])
    assert set(json.loads(found.stdout)) == {
        "root",
        "targets",
        "furniture",
        "snapshot",
        "timestamp",
    }
    assert "timestamp" in RUN.invoke(keys_app, ["refresh", str(registry)]).stdout


def test_device_init_and_status(registry):
    assert json.loads(init(registry, "--json").stdout)["family"] == "furniture"
    home = str(registry.parent / "home")
    found = RUN.invoke(device_app, ["status", "--home", home, "--json"])
    assert json.loads(found.stdout)["current"] is None
    assert "furniture" in RUN.invoke(device_app, ["status", "--home", home]).stdout


def test_limits_are_kept_and_shown(registry):
    found = init(registry, "--max-latency-ms", "5", "--max-size-mb", "0.25", "--json")
    budget = json.loads(found.stdout)["budget"]
    assert budget == {"max_latency_ms": 5.0, "max_size_bytes": 250_000}
    home = ["--home", str(registry.parent / "home")]
    assert "5 ms and 0.25 MB" in RUN.invoke(device_app, ["status", *home]).stdout


@pytest.mark.parametrize("limit", [("--max-latency-ms", "0"), ("--max-size-mb", "nan")])
def test_limits_that_are_none(registry, limit):
    found = init(registry, *limit)
    assert (found.exit_code, found.stderr.startswith(f"error: {limit[0]}")) == (2, True)
    assert not (registry.parent / "home").exists()


def test_the_profile_names_the_probes_of_the_wished_runtime(registry):
    home = ["--home", str(registry.parent / "home")]
    assert RUN.invoke(device_app, ["profile", *home]).exit_code == 2  # no device yet
    init(registry, "--runtime", "litert")
    found = json.loads(RUN.invoke(device_app, ["profile", *home, "--json"]).stdout)
    assert [(each["runtime"], each["precision"]) for each in found["probes"]] == [
        ("litert", "fp32"),
        ("litert", "int8"),
    ]
    shown = RUN.invoke(device_app, ["profile", *home]).stdout
    assert f"{found['probes'][0]['latency_ms_p50']:.3f} ms" in shown
    assert "GiB" in shown


def onnx_model(weights: np.ndarray) -> bytes:
    """(N, 8, 8, 3) -> flattened @ weights (192, D)."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def publish_linear(registry: Path, weights: np.ndarray, photo: bytes) -> None:
    """Sign release 1.0.0 with one ONNX artifact and a golden set of one photo."""
    recipe, blob = Preprocess(size_px=8), onnx_model(weights)
    pixels = recipe.pixels(photo)[None]
    rows = unit_rows(recipe.normalised(pixels).reshape(1, -1) @ weights, "golden")
    golden = GoldenSet((photo,), pixels, {digest_of(blob): rows}).to_bytes()
    artifact = Artifact(
        digest=digest_of(blob),
        size_bytes=len(blob),
        runtime="onnxruntime",
        precision="fp32",
        admission_cosine=0.9999,
    )
    fields = {"preprocess": recipe, "macs": 1, "params": 1, "artifacts": (artifact,)}
    named = Blob(digest=digest_of(golden), size_bytes=len(golden))
    manifest = ReleaseManifest(
        family="furniture",
        version="1.0.0",
        space=EmbeddingSpace(family="furniture", generation=1, dim=weights.shape[1]),
        cloud=Model(name="cloud", **fields),
        members=(Member(name="phone", golden=named, **fields),),
        report=Blob(digest="0" * 64, size_bytes=0),
    )
    pointer = Channel(family="furniture", channel="stable", version="1.0.0")
    Repository(registry, KeyFolder(registry.parent / "registry-keys")).sign_targets(
        "furniture",
        {
            blob_target("furniture", digest_of(blob)): blob,
            blob_target("furniture", digest_of(golden)): golden,
            manifest_target("furniture", "1.0.0"): manifest.to_bytes(),
        },
        moving={channel_target("furniture", "stable"): pointer.to_bytes()},
    )


def test_update_and_embed_with_a_runtime_that_is_installed(registry, tmp_path):
    rng = np.random.default_rng(5)
    weights, file = rng.normal(size=(192, 3)).astype(np.float32), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    publish_linear(registry, weights, file.getvalue())
    init(registry)
    (tmp_path / "photo.png").write_bytes(file.getvalue())
    home, photo = ["--home", str(tmp_path / "home")], str(tmp_path / "photo.png")

    updated = RUN.invoke(device_app, ["update", *home, "--json"])
    assert json.loads(updated.stdout)["artifact"] == "onnxruntime/fp32", updated.output
    assert "now runs" not in RUN.invoke(device_app, ["update", *home]).stdout
    status = json.loads(RUN.invoke(device_app, ["status", *home, "--json"]).stdout)
    assert status["current"]["check"]["cosine_min"] > 0.9999

    out = tmp_path / "rows.npy"
    found = RUN.invoke(device_app, ["embed", photo, photo, *home, "--out", str(out), "--json"])
    answer, rows = json.loads(found.stdout), np.load(out, allow_pickle=False)
    recipe = Preprocess(size_px=8)
    expected = unit_rows(recipe.tensor(file.getvalue()).reshape(1, -1) @ weights, "x")
    np.testing.assert_allclose(rows, np.repeat(expected, 2, axis=0), atol=1e-5)
    assert answer["space"] == "furniture/g1/3/cosine"
    assert [each["photo"] for each in answer["embeddings"]] == [photo, photo]
    np.testing.assert_allclose(answer["embeddings"][1]["embedding"], rows[1], atol=1e-7)

    missing = RUN.invoke(device_app, ["embed", photo, "gone.png", *home, "--out", str(out)])
    assert missing.exit_code == 2
    assert "gone.png" in missing.stderr
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), rows)  # not half-written


def test_an_error_is_one_line_on_stderr(registry):
    init(registry)
    home = str(registry.parent / "home")
    for verb in (["update"], ["embed", "photo.png", "--json"]):
        found = RUN.invoke(device_app, [*verb, "--home", home])
        assert found.exit_code == 2
        assert found.stdout == ""
        assert found.stderr.startswith("error: ")
        assert "Traceback" not in found.stderr


def test_embed_wants_to_know_where_to(registry):
    found = RUN.invoke(device_app, ["embed", "a.png", "--home", str(registry.parent / "home")])
    assert found.exit_code == 2
    assert "--out" in found.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (OfflineError, 3), (UntrustedError, 4), (RefusedError, 5)],
)
def test_exit_codes(error, code):
    app = typer.Typer()

    @app.command()
    @exits
    def refuse(name: str = "x") -> None:
        raise error(f"no {name}")

    found = RUN.invoke(app, ["--name", "way"])
    assert (found.exit_code, found.stderr) == (code, "error: no way\n")


def test_a_bug_is_not_hidden():
    @exits
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()


def test_the_device_verbs_load_neither_training_nor_serving():
    code = (
        "import sys, registry.cli_device, registry.cli_publish, edge.device, registry.repository;"
        "print(sorted({'torch', 'lancedb', 'fastapi', 'scipy', 'onnxruntime'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
