"""``kinspace adapt`` on drawn shapes: a tenant's member, made, judged, added to and unlearned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from compat.files import digest_of
from registry.cli import app
from registry.stages import member_inputs, train
from registry.workspace import Workspace
from server_models.config import FamilyConfig, read_family
from server_models.family import Family

CLASSES = ("c0", "c1", "c2", "c3")


def kinspace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shapes.toml, images/, a tenant of four classes and a trained run/."""
    root = tmp_path_factory.mktemp("adapting") / "set"
    shutil.copytree(shapes, root)
    train(read_family(root / "shapes.toml"), Workspace(root / "run"))
    rows = (root / "images" / "manifest.csv").read_text().splitlines()
    tenant = root / "tenant"
    tenant.mkdir()
    kept = [row for row in rows[1:] if row.split(",")[1] in CLASSES]
    for row in kept:
        file = tenant / row.split(",")[0]
        file.parent.mkdir(exist_ok=True)
        shutil.copy(root / "images" / row.split(",")[0], file)
    (tenant / "manifest.csv").write_text("\n".join([rows[0], *kept]))
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "set"))


def adapt(root: Path, *more: str) -> Result:
    return kinspace("adapt", root / "shapes.toml", "--member", "edge", "--data", root / "tenant",
                    "--out", root / "run", "--json", *more)  # fmt: skip


def files_of(folder: Path) -> dict[str, str]:
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): digest_of(file.read_bytes()) for file in found}


def with_section(root: Path) -> FamilyConfig:
    text = (root / "shapes.toml").read_text()
    section = (root / "run/adapted/edge-adapted.toml").read_text()
    (root / "both.toml").write_text(f"{text}\n{section}")
    return read_family(root / "both.toml")


def test_an_adapted_member_is_a_member_like_any(root: Path) -> None:
    before = files_of(root / "run" / "models" / "edge")
    found = adapt(root, "--influence")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["images"] == 12
    assert said["after_cosine"] > said["before_cosine"] + 0.05
    shares = [row["share"] for row in said["influence"]]
    assert len(shares) == 10
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < shares[0] < 1
    assert files_of(root / "run" / "models" / "edge") == before

    config = with_section(root)
    family = Family(config, root / "run" / "models")
    weights = family.folder("edge-adapted").weights.read_bytes()
    train(config, Workspace(root / "run"))  # neither trains it nor touches it
    assert family.folder("edge-adapted").weights.read_bytes() == weights
    adapted, plain = (family.member(member) for member in config.members[::-1])
    assert not np.allclose(adapted.embed.weight.detach(), plain.embed.weight.detach())


def test_forgetting_ends_near_to_never_having_seen(root: Path) -> None:
    assert adapt(root).exit_code == 0
    one = json.loads(adapt(root, "--forget", "0/0.png").stdout)
    assert (one["images"], one["forgotten"]) == (11, 1)
    assert one["unlearning_ratio"] < 0.1
    whole = json.loads(adapt(root, "--forget-class", "c1").stdout)
    assert (whole["images"], whole["forgotten"]) == (8, 7)
    assert whole["unlearning_ratio"] < 0.1
    again = json.loads(adapt(root).stdout)  # what was forgotten stays so
    assert (again["images"], again["forgotten"], again["steps"]) == (8, 7, 0)


def test_images_that_come_later_are_added(root: Path) -> None:
    manifest = root / "tenant" / "manifest.csv"
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join(row for row in rows if not row.startswith("3/")))
    first = json.loads(adapt(root).stdout)
    manifest.write_text("\n".join(rows))
    then = json.loads(adapt(root).stdout)
    assert (first["images"], then["images"]) == (9, 12)
    anew = json.loads(adapt(root, "--name", "anew").stdout)
    assert then["after_cosine"] == pytest.approx(anew["after_cosine"], abs=2e-3)


def test_another_adaptation_is_exported_anew(root: Path) -> None:
    assert adapt(root).exit_code == 0
    config = with_section(root)
    family = Family(config, root / "run" / "models")
    first = member_inputs(family, config.members[1])
    assert adapt(root, "--forget", "0/0.png").exit_code == 0
    assert member_inputs(family, config.members[1]) != first
    assert "adaptation" not in str(member_inputs(family, config.members[0]))


def test_a_member_that_was_trained_anew_must_be_adapted_anew(root: Path) -> None:
    assert adapt(root).exit_code == 0
    config = with_section(root)
    weights = root / "run/models/edge/weights.safetensors"
    shutil.copy(root / "run/models/edge-adapted/weights.safetensors", weights)
    found = kinspace("train", root / "both.toml", "--out", root / "run")
    assert found.exit_code == 2
    assert "run kinspace adapt again" in found.stderr
    assert config.members[1].name == "edge-adapted"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--member", "nobody"], "no member 'nobody'"),
        (["--name", "edge"], "is a trained model"),
        (["--name", "cloud"], "is a trained model"),
        (["--name", "../edge"], "cannot name a member"),
        (["--forget", "9/9.png"], "no image ['9/9.png']"),
        (["--forget-class", "c9"], "no class ['c9']"),
        ([each for name in CLASSES for each in ("--forget-class", name)], "no image of role"),
    ],
)
def test_a_wrong_call_changes_nothing(root: Path, more: list[str], why: str) -> None:
    before = files_of(root / "run")
    found = adapt(root, *more)
    assert found.exit_code == 2
    assert why in found.stderr
    assert files_of(root / "run") == before


def test_images_that_the_family_is_judged_on_are_refused(root: Path) -> None:
    shutil.copy(root / "images" / "9" / "0.png", root / "tenant" / "0" / "0.png")
    before = files_of(root / "run")
    found = adapt(root)
    assert found.exit_code == 2
    assert "0/0.png" in found.stderr
    assert "test split" in found.stderr
    assert files_of(root / "run") == before


def test_a_damaged_record_is_named_with_its_cure(root: Path) -> None:
    assert adapt(root).exit_code == 0
    record = root / "run/models/edge-adapted/adaptation.json"
    record.write_text("{}")
    found = adapt(root)
    assert found.exit_code == 4
    assert "then adapt again" in found.stderr
    assert record.read_text() == "{}"


def test_duals_of_another_solution_are_refused(root: Path) -> None:
    assert adapt(root).exit_code == 0
    folder = root / "run/models/edge-adapted"
    np.save(folder / "duals.npy", np.load(folder / "duals.npy")[:-1])
    before = files_of(root / "run")
    found = adapt(root)
    assert found.exit_code == 4
    assert "then adapt again" in found.stderr
    assert files_of(root / "run") == before
