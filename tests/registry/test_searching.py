"""``kinspace search-arch`` on drawn shapes: a front, members to paste, networks retrained."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server_models.config import FamilyConfig, read_family

SEARCH = """
[search]
member = "edge"
max_macs = 1_000_000
warm_up_steps = 2
schedule = { steps = 6, batch = 8, learning_rate = 3e-3, save_every_steps = 1 }
population = 4
generations = 2
retrain = 2
[search.space]
sizes_px = [24, 32]
widths = [[4, 8], [8, 12], [8, 12], [12, 16]]
depths = [1, 2]
"""


def kinspace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registry.cli", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    """The shapes, two training classes of which are for judging candidates."""
    shutil.copytree(shapes, tmp_path / "set")
    manifest = tmp_path / "set" / "images" / "manifest.csv"
    rows = manifest.read_text().replace(",c6,train,", ",c6,val,").replace(",c7,train,", ",c7,val,")
    manifest.write_text(rows)
    file = tmp_path / "set" / "shapes.toml"
    file.write_text(file.read_text() + SEARCH)
    return tmp_path / "set"


def test_a_search_ends_with_members_that_a_family_can_use(folder: Path) -> None:
    found = kinspace("search-arch", "shapes.toml", "--out", "run", "--json", cwd=folder)
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)["retrained"]
    assert [row["name"] for row in rows] == ["searched-1", "searched-2"]
    assert all(0 < row["macs"] <= 1_000_000 for row in rows)
    front = (folder / "run/search/front.json").read_bytes()
    assert json.loads(front)["front"]
    assert (folder / "run/search/front.svg").read_text().startswith("<?xml")

    text = (folder / "shapes.toml").read_text()
    head = text[: text.index("[[members]]")]
    (folder / "searched.toml").write_text(head + (folder / "run/search/best.toml").read_text())
    family: FamilyConfig = read_family(folder / "searched.toml")
    assert [member.name for member in family.members] == ["searched-1", "searched-2"]

    (log,) = (folder / "run/models/supernet").glob("trials-*.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:5]))  # killed there
    again = kinspace("search-arch", "shapes.toml", "--out", "run", "--json", cwd=folder)
    assert json.loads(again.stdout)["retrained"] == rows
    assert (folder / "run/search/front.json").read_bytes() == front

    otherwise = text.replace("[search]\n", '[search]\nreward = "R1"\n')
    (folder / "shapes.toml").write_text(otherwise)
    assert kinspace("search-arch", "shapes.toml", "--out", "run", cwd=folder).returncode == 0
    (other,) = set((folder / "run/models/supernet").glob("trials-*.jsonl")) - {log}
    assert "".join(lines) == log.read_text(), "candidates are judged anew, the old ones stay"
    assert json.loads(other.read_text().splitlines()[0]) != json.loads(lines[0])


def test_without_classes_to_judge_on_nothing_is_trained(folder: Path) -> None:
    manifest = folder / "images" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",val,", ",train,"))
    found = kinspace("search-arch", "shapes.toml", "--out", "run", cwd=folder)
    assert found.returncode == 2
    assert "no image of split 'val'" in found.stderr
    assert not (folder / "run" / "models").exists()
