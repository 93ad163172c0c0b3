"""A gallery model that is only a table of what it said: how far a family gets."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from compat.dataset import read_dataset
from compat.errors import ConfigError
from registry.stages import export, train
from registry.workspace import Workspace
from server_models.cloud_config import TableCloud
from server_models.config import FamilyConfig


def test_members_are_exported_and_the_rest_is_refused(family: FamilyConfig, tmp_path: Path) -> None:
    images = read_dataset(family.data.path).of("train")
    drawn = np.random.default_rng(0).normal(size=(len(images), family.dim)).tolist()
    table = pyarrow.table({"path": [image.name for image in images], "vector": drawn})
    pyarrow.parquet.write_table(table, tmp_path / "vectors.parquet")
    blind = family.model_copy(update={"cloud": TableCloud(vectors=tmp_path / "vectors.parquet")})
    workspace = Workspace(tmp_path / "run")
    train(blind, workspace)
    with pytest.raises(ConfigError, match=r"members are trained and exported.*cloud\.onnx"):
        export(blind, workspace)
    assert list((workspace.artifacts / "edge").glob("*.tflite"))
    assert not (workspace.artifacts / "cloud").exists()
