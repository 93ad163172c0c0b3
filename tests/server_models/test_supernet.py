"""A slice of the supernet and the network cut out of it compute the same."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from server_models.architecture import Layer, SearchSpace
from server_models.edge_net import EdgeNet
from server_models.export import count_macs
from server_models.supernet import SuperNet, recalibrate

SPACE = SearchSpace(
    sizes_px=(32,),
    widths=((4, 8), (6, 8), (8, 12), (8, 12)),
    depths=(1, 2),
    expands=(1, 2, 3),
    stem=4,
    features=16,
)
DIM = 5


@pytest.fixture(scope="module")
def supernet() -> SuperNet:
    torch.manual_seed(0)
    net = SuperNet(SPACE, DIM)
    for parameter in net.parameters():  # batch norms of 1 and 0 would hide a wrong slice
        nn.init.normal_(parameter, std=0.3)
    return net


def drawn(seed: int) -> dict[str, int]:
    return SPACE.draw(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_out_network_computes_what_its_slice_computes(supernet: SuperNet, seed: int) -> None:
    net = drawn(seed)
    images = torch.randn(6, 3, 32, 32)
    cut = supernet.inherit(net, DIM).train()  # batch statistics on both sides
    torch.testing.assert_close(cut(images), supernet(images, net), rtol=1e-4, atol=1e-5)


def test_only_the_drawn_slice_is_trained(supernet: SuperNet) -> None:
    small = {name: values[0] for name, values in SPACE.choices.items()}
    supernet.zero_grad()
    torch.autograd.backward(supernet(torch.randn(4, 3, 32, 32), small).square().sum())
    weight = supernet.stages[0][0].depthwise.conv.weight
    assert weight.grad is not None
    assert weight.grad[:4, :, 2:5, 2:5].abs().sum() > 0
    assert weight.grad[4:].abs().sum() == 0
    assert weight.grad[:, :, :2].abs().sum() == 0
    assert supernet.stages[0][1].project.conv.weight.grad is None


def test_the_warm_up_takes_the_mean_of_the_kernels() -> None:
    torch.manual_seed(1)
    from server_models.supernet import _Sliced

    layer = _Sliced(4, 4, 7, is_depthwise=True)
    images = torch.randn(2, 4, 9, 9)

    def raw(kernels: tuple[int, ...]) -> torch.Tensor:
        rows = [
            nn.functional.conv2d(images, layer.weight(4, 4, k), padding=k // 2, groups=4)
            for k in kernels
        ]
        return torch.stack(rows).mean(0)

    wanted = nn.functional.batch_norm(raw((3, 5, 7)), None, None, training=True)
    torch.testing.assert_close(layer(images, 4, (3, 5, 7)), wanted, rtol=1e-4, atol=1e-5)


def test_recalibration_measures_this_network(supernet: SuperNet) -> None:
    cut = supernet.inherit(drawn(3), DIM)
    images = torch.randn(64, 3, 32, 32)
    recalibrate(cut, [images])
    with torch.no_grad():
        found = cut(images)
        wanted = cut.train()(images)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)
    assert not torch.equal(found, EdgeNet(SPACE.build(drawn(3)), DIM).eval()(images))


def test_every_draw_is_a_network_of_the_space() -> None:
    macs = {count_macs(EdgeNet(SPACE.build(drawn(seed)), DIM), 32) for seed in range(30)}
    assert len(macs) > 20
    assert max(macs) <= count_macs(EdgeNet(SPACE.build(SPACE.largest()), DIM), 32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kernels": (3, 4)}, "kernels are 3, 5 or 7"),
        ({"depths": ()}, "at least one entry"),
        ({"expands": (3, 2)}, "ascends"),
        ({"widths": ((8,),)}, "each of the 4 stages"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        SearchSpace.model_validate({**SPACE.model_dump(), **change})


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValidationError, match="kernels are odd"):
        Layer(expand=2, channels=8, kernel=4)
