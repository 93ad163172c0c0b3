"""A release of the tiles that is ready to be published: as a candidate, and as a workspace."""

from pathlib import Path

from tiles import RECIPE, candidate, model, tiles_in

from compat.files import write_atomic
from compat.manifest import Precision, Runtime
from registry.candidate import CandidateFolder
from registry.publish import Candidate
from registry.workspace import Workspace

FAMILY_TOML = """
family = "tiles"
dim = 8

[data]
path = "data/manifest.csv"

[cloud]
name = "large"
backbone = "efficientnet-lite0"
preprocess = { size_px = 8 }
schedule = { steps = 1, batch = 2, learning_rate = 1e-3 }

[[members]]
name = "small"
backbone = "kin-s"
start = "nothing"
preprocess = { size_px = 8 }
schedule = { steps = 1, batch = 2, learning_rate = 1e-3 }
"""
NOISE = {"large": 0.0, "small": 0.01}


def candidate_in(root: Path, version: str = "1.0.0") -> Candidate:
    """A release candidate, whose data set is in ``root / "data"``."""
    data = root / "data"
    if not data.exists():
        tiles_in(data, 4)
    members = {"small": model(NOISE["small"])}
    return candidate(data, version=version, cloud=model(NOISE["large"]), members=members)


def workspace_in(root: Path) -> Path:
    """The TOML of a family whose workspace, ``root / "work"``, is ready to be published."""
    report = candidate_in(root).report
    workspace = Workspace(root / "work")
    for name, noise in NOISE.items():
        exported: dict[tuple[Runtime, Precision], bytes] = {("onnxruntime", "fp32"): model(noise)}
        CandidateFolder(workspace.artifacts / name).write(
            name=name, preprocess=RECIPE, macs=9, params=9, exported=exported
        )
    write_atomic(workspace.report_json, report)
    file = root / "tiles.toml"
    file.write_text(FAMILY_TOML)
    return file
