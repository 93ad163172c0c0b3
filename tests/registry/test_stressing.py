"""Stress on exported files: cloud, float and int8 are there, and a refusal leaves the report."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from compat.dataset import Dataset, read_dataset
from compat.errors import RefusedError
from compat.images import read_image
from compat.report import Report, UnmeasuredArtifact
from registry.candidate import CandidateFolder
from registry.judging import judge_candidate
from registry.stressing import stress_report
from registry.workspace import Workspace
from server_models.config import read_family
from server_models.export import export_onnx_fp32, export_onnx_int8

S, D = 32, 16


@pytest.fixture(scope="module")
def judged(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Dataset]:
    """A cloud model and a member of fresh weights, exported and judged."""
    home = tmp_path_factory.mktemp("stress")
    shutil.copytree(shapes, home, dirs_exist_ok=True)
    config = read_family(home / "shapes.toml")
    dataset = read_dataset(config.data.path)
    recipe = config.members[0].preprocess
    workspace = Workspace(home / "runs")
    inputs = {
        split: np.stack([recipe.tensor(read_image(q.path)) for q in dataset.of(split, "query")])
        for split in ("train", "test")
    }
    for name in ("edge", config.cloud.name):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 5, 4),
            torch.nn.ReLU6(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 7 * 7, D),
        ).eval()
        fp32 = export_onnx_fp32(net, S)
        exported = {("onnxruntime", "fp32"): fp32}
        if name == "edge":
            exported["onnxruntime", "int8"] = export_onnx_int8(fp32, inputs["train"])
        folder = CandidateFolder(workspace.artifacts / name)
        folder.write(name=name, preprocess=recipe, macs=1, params=1, exported=exported)
        with torch.no_grad():
            rows = net(torch.from_numpy(inputs["test"]).permute(0, 3, 1, 2)).numpy()
        folder.write_reference(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    judge_candidate(
        workspace,
        dataset,
        space=config.space,
        policy=config.policy,
        cloud=config.cloud.name,
        members=("edge",),
    )
    return workspace, dataset


def test_the_report_gains_cloud_float_and_int8_and_loses_nothing(
    judged: tuple[Workspace, Dataset],
) -> None:
    workspace, dataset = judged
    before = Report.from_bytes(workspace.report_json.read_bytes())
    assert before.stress is None
    stressed = stress_report(workspace, dataset)
    written = workspace.report_json.read_bytes()
    assert Report.from_bytes(written) == stressed
    assert stressed.model_copy(update={"stress": None}) == before
    assert stressed.stress is not None
    names = list(dict.fromkeys(point.model for point in stressed.stress.curves))
    assert [name.split()[-1] for name in names] == [
        "onnxruntime/fp32", "onnxruntime/fp32", "onnxruntime/int8",
    ]  # fmt: skip
    clean = {p.model: p for p in stressed.stress.curves if p.level == 0}
    for artifact in stressed.artifacts:  # the test set is small enough to be taken whole
        measured = clean[artifact.label].map.value
        assert measured == pytest.approx(artifact.cross_test.map.value, abs=1e-6)
    assert stress_report(workspace, dataset) == stressed
    assert workspace.report_json.read_bytes() == written


def test_the_numbers_are_the_same_again(judged: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = judged
    first = stress_report(workspace, dataset)
    written = workspace.report_json.read_bytes()
    workspace.report_json.write_bytes(first.model_copy(update={"stress": None}).to_bytes())
    stress_report(workspace, dataset)
    assert workspace.report_json.read_bytes() == written


def test_without_a_measured_artifact_nothing_is_stressed(
    judged: tuple[Workspace, Dataset], tmp_path: Path
) -> None:
    workspace, dataset = judged
    report = Report.from_bytes(workspace.report_json.read_bytes())
    gone = [
        UnmeasuredArtifact.model_validate(
            {field: getattr(each, field) for field in UnmeasuredArtifact.model_fields}
        )
        for each in report.artifacts
    ]
    blob = report.model_copy(
        update={"artifacts": (), "unmeasured": tuple(gone), "stress": None}
    ).to_bytes()
    other = Workspace(tmp_path)
    other.report_json.parent.mkdir(parents=True)
    other.report_json.write_bytes(blob)
    with pytest.raises(RefusedError, match="nothing to stress"):
        stress_report(other, dataset)
    assert other.report_json.read_bytes() == blob
    assert not other.report_html.exists()
