"""What devices run, opened from a workspace and from a registry; a candidate judged against it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from compat.dataset import read_dataset
from compat.errors import UntrustedError, UsageError
from compat.evidence import EvidenceSet
from compat.files import digest_of
from compat.images import read_image
from compat.policy import Policy
from compat.report import Report
from compat.retrieval import retrieval_per_query
from compat.verification import Subject
from registry.candidate import CandidateFolder
from registry.judging import held_out, judge_candidate
from registry.pipeline import publish_family
from registry.previous_release import open_previous
from registry.storage.files import FileStore
from registry.workspace import Workspace
from server_models.config import FamilyConfig, read_family
from server_models.export import export_onnx_fp32

S, D = 32, 16
LENIENT = Policy(min_cross_to_paragon=0.0, max_part_loss=1.0, require_compatibility_rule=False)


def judged(config: FamilyConfig, workspace: Workspace, seed: int, **more) -> Report:
    """A cloud model and a member of fresh weights, exported as ONNX and judged."""
    dataset = read_dataset(config.data.path)
    recipe = config.members[0].preprocess
    asked = [recipe.tensor(read_image(query.path)) for query in dataset.of("test", "query")]
    for name, of_seed in (("edge", seed), (config.cloud.name, 0)):
        torch.manual_seed(of_seed)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 5, 4),
            torch.nn.ReLU6(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 7 * 7, D),
        ).eval()
        exported = {("onnxruntime", "fp32"): export_onnx_fp32(net, S)}
        folder = CandidateFolder(workspace.artifacts / name)
        folder.write(name=name, preprocess=recipe, macs=1, params=1, exported=exported)
        with torch.no_grad():
            rows = net(torch.from_numpy(np.stack(asked)).permute(0, 3, 1, 2)).numpy()
        folder.write_reference(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return judge_candidate(
        workspace, dataset, space=config.space, policy=config.policy, cloud=config.cloud.name,
        members=("edge",), **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def config(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> FamilyConfig:
    home = tmp_path_factory.mktemp("previous") / "set"
    shutil.copytree(shapes, home)
    return read_family(home / "shapes.toml").model_copy(update={"policy": LENIENT})


@pytest.fixture(scope="module")
def home(config: FamilyConfig) -> Path:
    """v1/ judged and published to registry/."""
    home = config.data.path.parent.parent
    workspace = Workspace(home / "v1")
    assert judged(config, workspace, seed=1).admitted
    publish_family(config, workspace, registry=FileStore(home / "registry"), keys=home / "keys")
    return home


def right(subject: Subject, cloud: Subject, evidence: EvidenceSet) -> np.ndarray:
    """hit_rate@1 per query, by the embedders alone."""

    def embed(by: Subject, images: tuple[bytes, ...]) -> np.ndarray:
        recipe = by.embedder.preprocess
        return by.embedder.embed(np.stack([recipe.tensor(image) for image in images]))

    query = embed(subject, evidence.queries.images)
    gallery = embed(cloud, evidence.gallery.images)
    return retrieval_per_query(query, gallery, evidence.relevance()).hit_rate_at_1


def test_a_candidate_is_judged_against_what_the_registry_offers(
    config: FamilyConfig, home: Path
) -> None:
    evidence = held_out(read_dataset(config.data.path))
    with open_previous(str(home / "v1"), config.family) as by_workspace:
        before = right(by_workspace.members[0], by_workspace.cloud, evidence)
    with open_previous(str(home / "registry"), config.family) as release:
        assert release.digests == by_workspace.digests
        report = judged(config, Workspace(home / "v2"), seed=2, previous=release)
    with open_previous(str(home / "v2"), config.family) as candidate:
        now = right(candidate.members[0], candidate.cloud, evidence)
    previous = report.artifacts[0].previous
    assert previous is not None
    assert previous.digest == by_workspace.members[0].digest != report.artifacts[0].digest
    assert previous.flips_at_1.flips == int(((before == 1) & (now == 0)).sum())
    assert previous.flips_at_1.positive_flips == int(((before == 0) & (now == 1)).sum())
    page = Workspace(home / "v2").report_html.read_text()
    assert "Who gets worse by this update" in page


def test_a_place_without_a_release_is_named_with_its_cure(
    config: FamilyConfig, tmp_path: Path
) -> None:
    with (
        pytest.raises(UsageError, match="neither a workspace that was verified nor a registry"),
        open_previous(str(tmp_path), config.family),
    ):
        pytest.fail("nothing is there")


def test_attack_a_spoilt_file_of_the_registry_is_not_compared_with(
    config: FamilyConfig, home: Path, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(home / "registry", tmp_path / "registry"))
    [artifact] = CandidateFolder(home / "v1" / "artifacts" / "edge").read().artifacts
    files = [each for each in spoilt.rglob("*") if each.is_file()]
    [blob] = [each for each in files if digest_of(each.read_bytes()) == artifact.digest]
    blob.write_bytes(b"\0" * artifact.size_bytes)
    with pytest.raises(UntrustedError), open_previous(str(spoilt), config.family):
        pytest.fail("it was believed")
