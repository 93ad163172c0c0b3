"""A stage is done once for equal inputs; one that was cut off is done again."""

from pathlib import Path

import pytest

from compat.errors import CorruptError
from registry.workspace import Workspace


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_done_once_for_equal_inputs(tmp_path: Path) -> None:
    workspace, did = Workspace(tmp_path), []
    for inputs in ({"seed": 0}, {"seed": 0}, {"seed": 1}, {"seed": 1}):
        workspace.once("train", inputs, lambda inputs=inputs: did.append(inputs["seed"]))
    assert did == [0, 1]
    assert workspace.stage_seconds().keys() == {"train"}


def test_a_stage_that_was_killed_is_done_again(tmp_path: Path) -> None:
    workspace, did = Workspace(tmp_path), []

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        workspace.once("export", 1, die)
    assert workspace.stage_seconds() == {}
    assert workspace.once("export", 1, lambda: did.append("export"))
    assert not workspace.once("export", 1, lambda: did.append("again"))
    assert did == ["export"]


def test_a_damaged_stamp_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.once("verify", 1, lambda: None)
    (tmp_path / "stages" / "verify.json").write_text("{")
    with pytest.raises(CorruptError, match="remove it"):
        workspace.once("verify", 1, lambda: None)
