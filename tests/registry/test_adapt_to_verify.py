"""A tenant's member up to the gate: ``adapt``, ``export``, ``verify`` as a user runs them."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from tiles import RECIPE, model
from typer.testing import CliRunner

from compat.report import Report
from registry.cli import app

TENANT = ("c0", "c1", "c2", "c3")
FAMILY = """
family = "shapes"
dim = 8

[data]
path = "images/manifest.csv"

[policy]
require_compatibility_rule = false

[cloud]
onnx = "ink.onnx"
preprocess = { size_px = 8 }
macs = 9
"""
MEMBER = """
[[members]]
name = "edge"
backbone = "kin-s"
start = "starter"
preprocess = { size_px = 32 }
schedule = { steps = 12, batch = 16, learning_rate = 5e-3 }
"""


def ink() -> bytes:
    """A gallery model: the tiles' matrix on how the mean colour differs from white paper."""
    made = onnx.load_from_string(model(0.0))
    white = RECIPE.normalised(np.full((1, 1, 1, 3), 255, np.uint8))[0, 0, 0]  # (3,)
    made.graph.initializer.append(onnx.numpy_helper.from_array(white, "white"))
    made.graph.node.insert(1, onnx.helper.make_node("Sub", ["colour", "white"], ["ink"]))
    made.graph.node[2].input[0] = "ink"
    blob: bytes = made.SerializeToString()
    return blob


def kinspace(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_adapted_member_goes_through_the_gate(shapes: Path, tmp_path: Path) -> None:
    images, family, out = tmp_path / "images", tmp_path / "shapes.toml", tmp_path / "run"
    shutil.copytree(shapes / "images", images)
    (tmp_path / "ink.onnx").write_bytes(ink())
    family.write_text(FAMILY + MEMBER)
    kinspace("train", family, "--out", out)
    rows = (images / "manifest.csv").read_text().splitlines()
    kept = [row for row in rows[1:] if row.split(",")[1] in TENANT]
    (images / "tenant.csv").write_text("\n".join([rows[0], *kept]))

    tenant = ("--member", "edge", "--data", images / "tenant.csv", "--out", out, "--json")
    said = json.loads(kinspace("adapt", family, *tenant))
    assert said["after_cosine"] > said["before_cosine"]

    family.write_text(FAMILY + Path(said["section"]).read_text())  # the tenant ships its own only
    kinspace("export", family, "--out", out)
    report = Report.from_bytes(kinspace("verify", family, "--out", out, "--json").encode())
    admitted = {each.label: each for each in report.admitted}
    assert {each.member for each in report.admitted} == {"edge-adapted"}
    assert {"edge-adapted onnxruntime/fp32", "edge-adapted litert/int8"} <= set(admitted)
    for each in report.admitted:
        assert each.parity.cosine_min > 0.95  # the file computes what was adapted
        assert each.cross_test.map.value > 0.6  # four unseen classes, three images each
        assert each.calibration is not None
