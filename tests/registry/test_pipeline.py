"""The verbs as a user runs them, on a small set of drawn shapes, a planted member included."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compat.report import Report
from registry.workspace import Workspace

PLANTED = """
[[members]]
name = "alone"
backbone = "efficientnet-lite0" # it finds shapes by itself, so that chance is surely below
start = "imagenet"
preprocess = { size_px = 64 }
schedule = { steps = 30, batch = 16, learning_rate = 3e-3 }
losses = [{ term = "classification", weight = 1 }]
"""


def kinspace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registry.cli", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the family of shapes was trained and exported."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(shapes / "images", home / "images")
    text = (shapes / "shapes.toml").read_text()
    family, _, _ = text.partition("[[members]]")
    (home / "shapes.toml").write_text(family + PLANTED)
    for verb in ("train", "export"):
        done = kinspace(verb, "shapes.toml", cwd=home)
        assert done.returncode == 0, done.stderr
    return home


def test_a_member_trained_alone_is_refused_in_words(home: Path) -> None:
    done = kinspace("verify", "shapes.toml", cwd=home)
    assert done.returncode == 5
    assert "the gate admits no artifact" in done.stderr
    assert "alone onnxruntime/fp32" in done.stderr
    assert "not above self-test" in done.stderr
    workspace = Workspace(home / "runs" / "shapes")
    report = Report.from_bytes(workspace.report_json.read_bytes())
    assert {each.precision for each in report.artifacts} == {"fp32", "fp16", "int8"}
    assert not report.admitted
    assert "<html" in workspace.report_html.read_text()


def test_without_a_passing_report_nothing_is_published(home: Path) -> None:
    kinspace("verify", "shapes.toml", cwd=home)
    done = kinspace("publish", "shapes.toml", "--registry", "registry", "--keys", "keys", cwd=home)
    assert done.returncode == 5
    assert "not above self-test" in done.stderr
    assert not (home / "registry").exists()
    assert not (home / "keys").exists()


def test_verify_is_the_same_again(home: Path) -> None:
    workspace = Workspace(home / "runs" / "shapes")
    kinspace("verify", "shapes.toml", cwd=home)
    first = json.loads(workspace.report_json.read_text())
    shutil.rmtree(workspace.root / "stages")
    kinspace("verify", "shapes.toml", cwd=home)
    second = json.loads(workspace.report_json.read_text())
    assert first.pop("timing") != second.pop("timing")
    assert first == second


@pytest.mark.parametrize("verb", ["train", "export", "verify"])
def test_a_mistake_in_the_family_is_exit_2(verb: str, home: Path) -> None:
    (home / "bad.toml").write_text((home / "shapes.toml").read_text() + "\nnonsense = 1\n")
    done = kinspace(verb, "bad.toml", cwd=home)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr
