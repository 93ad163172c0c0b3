"""The dense gallery model: its cost, its precision while learning, its file."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compat.preprocess import Preprocess
from server_models.cloud_config import CloudConfig
from server_models.config import FamilyConfig
from server_models.config_section import Schedule
from server_models.edge_net import SPECS, EdgeNet
from server_models.export import count_macs, export_onnx_fp32
from server_models.family import Family
from server_models.precision import fast, has_bfloat16, is_dense
from server_models.query_net import begin_cloud, build
from server_models.residual_net import ResidualNet


@pytest.fixture(scope="module")
def net() -> ResidualNet:
    torch.manual_seed(0)
    return ResidualNet("resnet18-w32", 16).eval()


def test_it_is_dear_enough_for_members_80_times_cheaper(net: ResidualNet) -> None:
    """Counted by hand at 32 px: stem, first stage, three stages that halve and widen, embedding."""
    stem = 32 * 32 * 27 * 32
    first = 4 * 32 * 32 * 9 * 32 * 32
    later = 0
    for side, into in ((16, 32), (8, 64), (4, 128)):
        out = 2 * into
        later += side * side * (9 * into * out + into * out + 3 * 9 * out * out)
    assert count_macs(net, 32) == stem + first + later + 256 * 16
    assert count_macs(net, 64) > 80 * count_macs(EdgeNet(SPECS["kin-m"], 16), 64)


def test_only_dense_networks_learn_in_bfloat16(net: ResidualNet) -> None:
    edge = EdgeNet(SPECS["kin-s"], 16).eval()
    assert is_dense(net)
    assert not is_dense(edge)
    images = torch.randn(2, 3, 32, 32)
    with fast(net):
        assert net.trunk(images).dtype == (torch.bfloat16 if has_bfloat16() else torch.float32)
    with fast(edge):
        assert edge(images).dtype == torch.float32


def test_bfloat16_lands_where_float32_does(net: ResidualNet) -> None:
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        exact = net(images)
        with fast(net):
            quick = net(images).float()
    assert torch.cosine_similarity(exact, quick).min() > 0.999


def test_a_family_with_it_trains_from_nothing_and_exports(
    family: FamilyConfig, tmp_path: Path
) -> None:
    cloud = CloudConfig(
        backbone="resnet18-w32",
        start="nothing",
        preprocess=Preprocess(size_px=16),
        schedule=Schedule(steps=3, batch=4, learning_rate=1e-3),
    )
    trained = Family(family.model_copy(update={"cloud": cloud}), tmp_path)
    trained.train_cloud()
    model = trained.gallery_model
    images = trained.dataset.of("train")[:3]
    said = model.embed(images, title="few")
    assert np.linalg.norm(said, axis=1) == pytest.approx(1, abs=1e-5)

    session = onnxruntime.InferenceSession(export_onnx_fp32(model.net, 16))  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    tensors = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    [found] = session.run(None, {"image": tensors})
    with torch.inference_mode():
        wanted = model.net(torch.from_numpy(tensors).permute(0, 3, 1, 2))  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_it_begins_with_its_starter_unless_told_not_to() -> None:
    config = CloudConfig(
        backbone="resnet18-w32",
        preprocess=Preprocess(size_px=16),
        schedule=Schedule(steps=1, learning_rate=1e-3),
    )
    assert "start" not in config.model_dump(mode="json")  # digests of earlier runs stay
    nothing = config.model_copy(update={"start": "nothing"})
    assert nothing.model_dump(mode="json")["start"] == "nothing"

    def begun(cloud: CloudConfig) -> ResidualNet:
        torch.manual_seed(0)
        net = ResidualNet("resnet18-w32", 16)
        begin_cloud(net, cloud)
        return net

    plain, started = begun(nothing), begun(config)
    torch.manual_seed(0)
    fresh = ResidualNet("resnet18-w32", 16)
    for name, value in fresh.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)
    changed = [
        name for name, value in fresh.state_dict().items()
        if not torch.equal(started.state_dict()[name], value)
    ]  # fmt: skip
    assert any(name.startswith("trunk.") for name in changed)
    assert not any(name.startswith("embed.") for name in changed)  # the family's own


def test_blocks_with_random_weights_are_not_frozen() -> None:
    config = CloudConfig(
        backbone="efficientnet-lite0",
        frozen_blocks=3,
        preprocess=Preprocess(size_px=32),
        schedule=Schedule(steps=1, learning_rate=1e-3),
    )
    assert any(not weight.requires_grad for weight in build(config, 8).parameters())
    nothing = config.model_copy(update={"start": "nothing"})
    assert all(weight.requires_grad for weight in build(nothing, 8).parameters())
