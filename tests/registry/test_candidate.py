"""Exported files keep their digests on disk, and damage is named."""

from pathlib import Path

import numpy as np
import pytest

from compat.errors import CorruptError, UsageError
from compat.preprocess import Preprocess
from registry.candidate import CandidateFolder


@pytest.fixture
def folder(tmp_path: Path) -> CandidateFolder:
    folder = CandidateFolder(tmp_path / "edge")
    folder.write(
        name="edge",
        preprocess=Preprocess(size_px=32),
        macs=10,
        params=5,
        exported={("onnxruntime", "fp32"): b"weights", ("litert", "int8"): b"small"},
    )
    return folder


def test_what_was_written_is_read(folder: CandidateFolder) -> None:
    model = folder.read()
    assert [artifact.label for artifact in model.artifacts] == ["onnxruntime/fp32", "litert/int8"]
    assert [folder.blob(artifact) for artifact in model.artifacts] == [b"weights", b"small"]
    assert folder.reference() is None
    rows = np.eye(3, dtype=np.float32)
    folder.write_reference(rows)
    found = folder.reference()
    assert found is not None
    assert np.array_equal(found, rows)


def test_a_flipped_byte_is_named(folder: CandidateFolder) -> None:
    [artifact, _] = folder.read().artifacts
    folder.file(artifact).write_bytes(b"weighty")
    with pytest.raises(CorruptError, match="damaged"):
        folder.blob(artifact)


def test_nothing_exported_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.json"):
        CandidateFolder(tmp_path).read()


def test_a_damaged_description_is_named(folder: CandidateFolder) -> None:
    (folder.path / "model.json").write_text("{}")
    with pytest.raises(CorruptError, match="export again"):
        folder.read()
