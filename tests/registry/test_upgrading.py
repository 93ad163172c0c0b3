"""``kinspace upgrade`` as a user runs it, on a small set of drawn shapes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiles import RECIPE, model
from typer.testing import CliRunner, Result

from compat.files import digest_of
from registry.candidate import CandidateFolder
from registry.cli import app
from registry.stages import cloud_inputs, family_of, member_inputs
from registry.workspace import Workspace
from server_models.config import read_family

CLOUD = """
family = "shapes"
version = "{version}"
dim = {dim}

[data]
path = "images/manifest.csv"

[cloud]
backbone = "kin-s"
preprocess = {{ size_px = 32 }}
schedule = {{ steps = {steps}, batch = 16, learning_rate = 1e-3 }}

[[members]]
name = "edge"
backbone = "kin-s"
preprocess = {{ size_px = 32 }}
schedule = {{ steps = 2, batch = 8, learning_rate = 1e-3 }}
"""
BACKWARD = """
[upgrade]
losses = [{ term = "influence", weight = 1 }]
"""


def kinspace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def old(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, old.toml trained in old/, and new.toml with more dimensions."""
    root = tmp_path_factory.mktemp("upgrade")
    shutil.copytree(shapes / "images", root / "images")
    (root / "old.toml").write_text(CLOUD.format(version="1.0.0", dim=12, steps=2))
    (root / "new.toml").write_text(CLOUD.format(version="2.0.0", dim=16, steps=6) + BACKWARD)
    done = kinspace("train", root / "old.toml", "--out", root / "old")
    assert done.exit_code == 0, done.stderr
    return root


@pytest.fixture
def root(old: Path, tmp_path: Path) -> Path:
    shutil.copytree(old, tmp_path, dirs_exist_ok=True)
    return tmp_path


def upgrade(root: Path, release: Path, *more: str, family: str = "new.toml") -> Result:
    return kinspace(
        "upgrade", root / family, "--from", release, "--out", root / "new", "--json", *more
    )


def files_of(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def table(root: Path, rows: dict[str, list[float]]) -> Path:
    """A black box: old vectors by path, .npy and .csv."""
    np.save(root / "vectors.npy", np.array(list(rows.values()), np.float32))
    (root / "vectors.csv").write_text("\n".join(["path", *rows]))
    return root / "vectors.npy"


def perfect(root: Path) -> dict[str, list[float]]:
    """Vectors that no new model can beat: one direction a class."""
    lines = (root / "images/manifest.csv").read_text().splitlines()[1:]
    named = [line.split(",")[:2] for line in lines]
    return {path: np.eye(12)[int(label[1:])].tolist() for path, label in named}


def test_the_whole_matrix_is_measured_then_the_family_goes_on(root: Path) -> None:
    before = files_of(root / "old")
    found = upgrade(root, root / "old", "--unconstrained")
    matrix = json.loads(found.stdout)
    assert found.exit_code == (0 if matrix["criterion"] else 5), found.stderr
    assert matrix["releases"] == ["old", "2.0.0"]
    names = [(p["query_release"], p["query"], p["gallery_release"]) for p in matrix["pairs"]]
    assert names == [
        (release, query, gallery)
        for release, query in (("old", "cloud"), ("old", "edge"), ("2.0.0", "cloud"))
        for gallery in ("old", "2.0.0")
    ]
    assert (matrix["update_gain"] is not None) <= matrix["criterion"]
    assert matrix["self_above_unconstrained"]["counted"] > 0
    assert (root / "new/upgrade/matrix.md").read_text().startswith("# Upgrade of shapes")
    assert files_of(root / "old") == before

    weights = (root / "new/models/cloud/weights.safetensors").read_bytes()
    trained = kinspace("train", root / "new.toml", "--out", root / "new")
    assert trained.exit_code == 0, trained.stderr
    assert (root / "new/models/cloud/weights.safetensors").read_bytes() == weights
    again = json.loads(upgrade(root, root / "old").stdout)
    assert ("2.0.0", "edge", "old") in [
        (p["query_release"], p["query"], p["gallery_release"]) for p in again["pairs"]
    ]
    assert (root / "new/models/cloud/weights.safetensors").read_bytes() == weights


def exported(root: Path, run: str, name: str, noise: float, dim: int) -> str:
    """An exported file in a workspace, and its digest."""
    blob = model(noise, dim)
    folder = CandidateFolder(root / run / "artifacts" / name)
    fields = {"name": name, "preprocess": RECIPE, "macs": 9, "params": 9}
    folder.write(**fields, exported={("onnxruntime", "fp32"): blob})
    return digest_of(blob)


def test_what_is_exported_is_measured_by_its_files(root: Path) -> None:
    files = {("old", name): exported(root, "old", name, noise, 12)
             for name, noise in (("cloud", 0.0), ("edge", 0.1))}  # fmt: skip

    def measured() -> dict[tuple[str, str, str], dict]:
        pairs = json.loads(upgrade(root, root / "old").stdout)["pairs"]
        assert {p["gallery_release"]: p["gallery_digest"] for p in pairs} == {
            "old": files["old", "cloud"], "2.0.0": files.get(("2.0.0", "cloud"))
        }  # fmt: skip
        for pair in pairs:
            file = files.get((pair["query_release"], pair["query"]))
            assert (pair["exported"] and pair["exported"]["digest"]) == file
        return {(p["query_release"], p["query"], p["gallery_release"]): p for p in pairs}

    first = measured()
    assert first["old", "cloud", "old"]["calibration"] == {"scale": 1, "shift": 0}
    trained = kinspace("train", root / "new.toml", "--out", root / "new")
    assert trained.exit_code == 0, trained.stderr
    new = {("2.0.0", name): exported(root, "new", name, noise, 16)
           for name, noise in (("cloud", 0.2), ("edge", 0.3))}  # fmt: skip
    measured()  # files of other weights, or half an export, are not these models
    workspace = Workspace(root / "new")
    family = family_of(read_family(root / "new.toml"), workspace)
    [member] = family.config.members
    workspace.once("export-cloud", cloud_inputs(family), lambda: None)
    workspace.once("export-edge", member_inputs(family, member), lambda: None)
    files |= new
    last = measured()
    assert len(last) == 8
    assert last["2.0.0", "cloud", "2.0.0"]["calibration"] == {"scale": 1, "shift": 0}
    assert "edge onnxruntime/fp32 | old" in (root / "new/upgrade/matrix.md").read_text()


def test_it_begins_with_the_old_weights_where_that_is_asked_for(root: Path) -> None:
    changed = (root / "new.toml").read_text().replace("dim = 16", "dim = 12")
    (root / "new.toml").write_text(changed.replace("[upgrade]", '[upgrade]\nstart = "old"'))
    found = upgrade(root, root / "old", "--unconstrained")
    assert found.exit_code in (0, 5), found.stderr
    weights = (root / "old/models/cloud/weights.safetensors").read_bytes()
    for run in ("models/cloud", "upgrade/unconstrained"):
        recorded = json.loads((root / "new" / run / "run.json").read_bytes())
        assert recorded["config"]["start"] == digest_of(weights)


def test_a_black_box_that_cannot_be_beaten_is_a_refusal(root: Path) -> None:
    found = upgrade(root, table(root, perfect(root)))
    assert found.exit_code == 5
    assert "2.0.0 does not search the vectors of vectors better" in found.stderr
    matrix = json.loads((root / "new/upgrade/matrix.json").read_bytes())
    assert matrix["pairs"][0]["cross"]["value"] == 1.0
    assert not matrix["criterion"]


def test_a_table_that_lacks_images_is_named_and_nothing_is_trained(root: Path) -> None:
    rows = perfect(root)
    del rows["3/2.png"]
    found = upgrade(root, table(root, rows))
    assert found.exit_code == 2
    assert "vectors.npy lacks the old vectors of 1 of 48 images of split 'train'" in found.stderr
    assert not (root / "new/models").exists()


def test_an_upgrade_is_not_trained_as_if_it_were_none(root: Path) -> None:
    found = kinspace("train", root / "new.toml", "--out", root / "new")
    assert found.exit_code == 2
    assert "run kinspace upgrade --from first" in found.stderr
    assert not (root / "new/models").exists()


def test_the_old_workspace_is_not_written_over(root: Path) -> None:
    before = files_of(root / "old")
    for release in ("old", "old/models", "old/models/cloud"):
        found = kinspace(
            "upgrade", root / "new.toml", "--from", root / release, "--out", root / "old"
        )
        assert found.exit_code == 2
        assert "give the new release one of its own" in found.stderr
    assert files_of(root / "old") == before


@pytest.mark.parametrize(
    ("change", "release", "why"),
    [
        (("dim = 16", "dim = 8"), "old", "dim = 8, the old model has 12"),
        (("2.0.0", "2.0.0"), "images", "holds 0 trained cloud models"),
        (('"influence"', '"influense"'), "old", "upgrade.losses"),
        (("[upgrade]", '[upgrade]\nstart = "old"'), "old", "has another backbone or dim"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    root: Path, change: tuple[str, str], release: str, why: str
) -> None:
    (root / "new.toml").write_text((root / "new.toml").read_text().replace(*change))
    found = upgrade(root, root / release)
    assert found.exit_code == 2
    assert why in found.stderr
    assert not (root / "new/models").exists()
