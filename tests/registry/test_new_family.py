"""A stranger's folder: odd sizes, formats and files; no tuning."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from registry.cli import app
from registry.new_family import CLOUD_STEPS, MEMBER_STEPS, Counted, family_toml
from server_models.config import read_family


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten classes in nine formats and modes, and three files that are no image."""
    rng = np.random.default_rng(0)
    root = tmp_path / "shop"
    kinds = ["RGB .jpg", "RGBA .png", "L .png", "P .gif", "RGB .webp", "RGB .bmp", "CMYK .jpg",
             "L .tif", "LA .png"]  # fmt: skip
    for label in range(10):
        for turn in range(8):
            mode, suffix = kinds[(label + turn) % len(kinds)].split()
            size = (int(rng.integers(20, 200)), int(rng.integers(20, 200)))
            colour = tuple(int(c) for c in rng.integers(0, 255, 3))
            file = root / f"thing {label}" / f"{turn}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, colour).convert(mode).save(file)
    (root / "thing 0" / "cut.jpg").write_bytes((root / "thing 0" / "0.jpg").read_bytes()[:90])
    (root / "thing 1" / "text.png").write_text("no picture")
    (root / "thing 2" / "empty.webp").touch()
    (root / "thing 3" / "notes.txt").write_text("not even called one")
    return root


def test_a_folder_becomes_a_family_that_can_be_trained(folder: Path, tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    said = CliRunner().invoke(app, ["new", str(folder), "--name", "shop", "--out", str(toml)])
    assert said.exit_code == 0, said.output
    assert said.output.count("left out") == 3
    config = read_family(toml)
    assert config.data.path == folder.resolve()
    assert config.data.on_bad_image == "skip"
    assert config.cloud.schedule.steps >= CLOUD_STEPS[0]  # type: ignore[union-attr]
    assert [member.start for member in config.members] == ["starter", "starter"]


def test_schedules_follow_the_size_of_the_set_within_bounds() -> None:
    few, many = Counted(4, 20, 10), Counted(10**4, 10**6, 10**6)
    assert (few.cloud_steps, few.member_steps) == (CLOUD_STEPS[0], MEMBER_STEPS[0])
    assert (many.cloud_steps, many.member_steps) == (CLOUD_STEPS[1], MEMBER_STEPS[1])
    assert "left" not in family_toml("x", "images", few, skip_bad=False)


@pytest.mark.parametrize(("name", "said"), [("Shop", "cannot name a family"), ("shop", "exists")])
def test_nothing_is_overwritten_and_no_bad_name_taken(
    folder: Path, tmp_path: Path, name: str, said: str
) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text("mine")
    found = CliRunner().invoke(app, ["new", str(folder), "--name", name, "--out", str(toml)])
    assert found.exit_code == 2
    assert said in found.output
    assert toml.read_text() == "mine"
