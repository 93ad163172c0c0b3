"""``kinspace matrix show``: what a person and a program see of the signed pairs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from compat.manifest import (
    Artifact,
    Blob,
    Channel,
    Member,
    Model,
    ReleaseManifest,
    channel_target,
    manifest_target,
)
from compat.matrix import CompatibilityMatrix, Entry, matrix_target
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from registry.cli_matrix import matrix_app
from registry.keys import KeyFolder
from registry.repository import Repository

RUN = CliRunner()
SPACE = EmbeddingSpace(family="chairs", generation=1, dim=8)


def entry(member: str, **over: object) -> Entry:
    fields = {
        "member": member,
        "artifact_digest": "b" * 64,
        "runtime": "onnxruntime",
        "precision": "fp32",
        "space": SPACE.id,
        "gallery_generation": "1.0.0",
        "gallery_model": "large",
        "gallery_digest": "a" * 64,
        "gallery_space": SPACE.id,
        "admitted": True,
        "cross": 0.4,
        "criterion": 0.35,
        "report_digest": "f" * 64,
    }
    return Entry.model_validate(fields | over)


MATRIX = CompatibilityMatrix(family="chairs").with_entries(
    [
        entry("small"),
        entry("tiny", artifact_digest="c" * 64, admitted=False, cross=0.125),
        entry("small", gallery_generation="1.1.0", gallery_digest="d" * 64, score_scale=1.1),
    ]
)


@pytest.fixture
def publish(tmp_path: Path):
    """Signs release 1.0.0 of chairs, with a matrix or without; returns the registry."""

    def sign(matrix: CompatibilityMatrix | None) -> str:
        artifact = Artifact(
            digest="b" * 64, size_bytes=9, runtime="onnxruntime", precision="fp32",
            admission_cosine=0.99,
        )  # fmt: skip
        fields = {"preprocess": Preprocess(size_px=8), "macs": 1, "params": 1}
        golden = Blob(digest="1" * 64, size_bytes=1)
        manifest = ReleaseManifest(
            family="chairs",
            version="1.0.0",
            space=SPACE,
            cloud=Model(name="large", artifacts=(artifact,), **fields),
            members=(Member(name="small", artifacts=(artifact,), golden=golden, **fields),),
            report=Blob(digest="2" * 64, size_bytes=1),
        )
        pointer = Channel(family="chairs", channel="stable", version="1.0.0")
        repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
        repository.create()
        repository.add_family("chairs")
        moving = {channel_target("chairs", "stable"): pointer.to_bytes()}
        if matrix:
            moving[matrix_target("chairs")] = matrix.to_bytes()
        signed = {manifest_target("chairs", "1.0.0"): manifest.to_bytes()}
        repository.sign_targets("chairs", signed, moving=moving)
        return str(tmp_path / "registry")

    return sign


def test_a_table_for_people_and_the_document_for_programs(publish):
    registry = publish(MATRIX)
    shown = RUN.invoke(matrix_app, ["chairs", "--registry", registry])
    assert shown.exit_code == 0, shown.output
    blocks = shown.stdout.split("gallery 1.1.0")
    assert len(blocks) == 2
    [refused] = [line for line in blocks[0].splitlines() if "tiny" in line]
    assert "12.5%" in refused
    assert "35.0%" in refused
    assert "refused" in refused
    assert "1.1 s +0" in blocks[1]
    printed = RUN.invoke(matrix_app, ["chairs", "--registry", registry, "--json"]).stdout
    assert CompatibilityMatrix.from_bytes(printed.encode(), family="chairs") == MATRIX


def test_a_family_without_one_says_how_it_gets_one(publish):
    found = RUN.invoke(matrix_app, ["chairs", "--registry", publish(None)])
    assert (found.exit_code, found.stdout) == (2, "")
    assert "kinspace publish" in found.stderr


def test_a_tampered_one_is_not_shown(publish):
    registry = publish(MATRIX)
    [path] = (Path(registry) / "targets/chairs/matrix").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"admitted": false', b'"admitted": true '))
    found = RUN.invoke(matrix_app, ["chairs", "--registry", registry])
    assert (found.exit_code, found.stdout) == (4, "")
