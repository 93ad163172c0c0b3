"""A supernet that was killed and goes on equals one that was never stopped, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

import server_models.loop
from compat.embedding import unit_rows
from compat.preprocess import Preprocess
from server_models.architecture import SearchSpace
from server_models.config import FamilyConfig, SearchConfig
from server_models.config_section import Schedule
from server_models.family import Family
from server_models.gallery_model import TrainedGallery
from server_models.lite_net import LiteNet
from server_models.pixels import decode_all
from server_models.run_folder import RunFolder
from server_models.train_supernet import sized, train_supernet

SEARCH = SearchConfig(
    space=SearchSpace(
        sizes_px=(16, 24),
        widths=((4, 8), (6, 8), (8, 12), (8, 12)),
        depths=(1, 2),
        stem=4,
        features=16,
    ),
    max_macs=10**6,
    warm_up_steps=2,
    schedule=Schedule(steps=6, batch=8, learning_rate=3e-3, save_every_steps=1),
    member="edge",
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it."""


def train(config: FamilyConfig, folder: Path) -> dict[str, bytes]:
    family = Family(config, folder)
    images, member = family.dataset.of("train"), config.members[0]
    anchors = np.random.default_rng(0).normal(size=(len(images), config.dim)).astype(np.float32)
    run = RunFolder(folder)
    train_supernet(
        config, SEARCH, member,
        {s: decode_all(images, sized(member.preprocess, s), title="") for s in (16, 24)},
        TrainedGallery(
            LiteNet("efficientnet-lite0", config.dim),
            torch.randn(8, config.dim),
            Preprocess(size_px=32),
        ),
        anchors=unit_rows(anchors, "anchors"),
        data_digest=family.dataset.digest,
        folder=run,
    )  # fmt: skip
    weights = safetensors.numpy.load_file(run.weights)
    return {name: value.tobytes() for name, value in weights.items()}


@pytest.mark.parametrize("killed_at", [1, 4])  # in the warm-up, and after it
def test_resume_equals_never_stopping(
    killed_at: int, family: FamilyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    unbroken = train(family, tmp_path / "unbroken")
    saved, real = 0, server_models.loop.save_checkpoint

    def save_then_die(path: Path, checkpoint: server_models.loop.Checkpoint) -> None:
        nonlocal saved
        real(path, checkpoint)
        saved += 1
        if saved == killed_at:
            raise Killed

    torch.manual_seed(5)
    with monkeypatch.context() as patched:
        patched.setattr(server_models.loop, "save_checkpoint", save_then_die)
        with pytest.raises(Killed):
            train(family, tmp_path / "killed")
    torch.manual_seed(5)
    assert train(family, tmp_path / "killed") == unbroken
