"""Stop-and-resume equals never stopping, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.numpy
import torch

import server_models.loop
from server_models.config import FamilyConfig
from server_models.family import Family


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it."""


def train(config: FamilyConfig, runs: Path) -> Family:
    family = Family(config, runs)
    family.train_cloud()
    family.train_member(config.members[0])
    return family


def bits(family: Family, model: str) -> dict[str, bytes]:
    weights = safetensors.numpy.load_file(family.folder(model).weights)
    return {name: value.tobytes() for name, value in weights.items()}


@pytest.fixture(scope="module")
def unbroken(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    from server_models.config import read_family

    return train(read_family(shapes / "shapes.toml"), tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("model", ["cloud", "edge"])
@pytest.mark.parametrize("killed_at", [1, 3])
def test_resume_equals_never_stopping(
    model: str,
    killed_at: int,
    family: FamilyConfig,
    unbroken: Family,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, real = 0, server_models.loop.save_checkpoint

    def save_then_die(path: Path, checkpoint: server_models.loop.Checkpoint) -> None:
        nonlocal save
        real(path, checkpoint)
        if path.parent.name == model:
            save += 1
            if save == killed_at:
                raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(server_models.loop, "save_checkpoint", save_then_die)
        with pytest.raises(Killed):
            train(family, tmp_path)
    torch.manual_seed(99)  # the world moved on
    resumed = train(family, tmp_path)
    assert bits(resumed, "cloud") == bits(unbroken, "cloud")
    assert bits(resumed, "edge") == bits(unbroken, "edge")
    assert resumed.folder(model).metrics.read_text() == unbroken.folder(model).metrics.read_text()


def test_training_moves_the_weights(unbroken: Family) -> None:
    """Guards the test above: two runs that learn nothing would be equal, too."""
    lines = unbroken.folder("edge").metrics.read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]


def test_another_seed_is_another_model(
    family: FamilyConfig, unbroken: Family, tmp_path: Path
) -> None:
    other = train(family.model_copy(update={"seed": 4}), tmp_path)
    assert bits(other, "edge") != bits(unbroken, "edge")


def test_a_member_of_another_gallery_model_is_not_gone_on_with(
    family: FamilyConfig, unbroken: Family, tmp_path: Path
) -> None:
    """Its own section is the same; what it is asked to land on is not."""
    cloud = family.cloud.model_copy(update={"margin": 0.3})
    changed = family.model_copy(update={"cloud": cloud})
    shutil.copytree(unbroken.runs, tmp_path / "here")
    here, anew = train(changed, tmp_path / "here"), train(changed, tmp_path / "anew")
    assert bits(here, "edge") == bits(anew, "edge") != bits(unbroken, "edge")


def test_a_run_says_what_made_it(unbroken: Family) -> None:
    described = json.loads((unbroken.folder("edge").path / "run.json").read_text())
    assert described["config"]["losses"][0] == {"term": "regression", "weight": 1.0}
    assert {"data_digest", "code_digest", "torch"} <= described.keys()


def test_a_checkpoint_from_before_a_second_optimiser_goes_on(tmp_path: Path) -> None:
    weights = {"net": {"weight": torch.ones(2)}}
    state = {"state": {}, "param_groups": []}
    old = {"run_digest": "of-it", "step": 7, "modules": weights, "optimizer": state}
    torch.save(old, tmp_path / "checkpoint.pt")
    kept = server_models.loop.load_checkpoint(tmp_path / "checkpoint.pt")
    assert kept is not None
    assert (kept.step, kept.optimizers) == (7, [state])
