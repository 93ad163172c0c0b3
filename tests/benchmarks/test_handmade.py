"""Hand-made networks: as wide as the budget allows, and what their names say."""

import pytest
import torch

from benchmarks.handmade import FAMILIES, STEP, _Shuffle, widest
from compat.errors import UsageError
from edge.runtimes import open_runtime
from server_models.export import count_macs, export_onnx_fp32

DIM, SIZE_PX = 8, 32


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_fills_its_budget(family: str) -> None:
    width = widest(family, DIM, size_px=SIZE_PX, max_macs=500_000)
    net = FAMILIES[family](width, DIM)
    assert net.eval()(torch.randn(2, 3, SIZE_PX, SIZE_PX)).shape == (2, DIM)
    assert count_macs(net, SIZE_PX) <= 500_000
    assert count_macs(FAMILIES[family](width + STEP, DIM), SIZE_PX) > 500_000


def test_a_budget_below_the_narrowest_is_refused() -> None:
    with pytest.raises(UsageError, match="narrowest shufflenet-v2 costs more than 1000 MACs"):
        widest("shufflenet-v2", DIM, size_px=SIZE_PX, max_macs=1000)


def test_the_published_costs() -> None:
    """At full width and 224 px: 300, 56 and 146 M MACs in the papers.

    MobileNetV2 is without its last convolution, 320 x 1280 x 7 x 7 = 20 M.
    """
    found = {name: count_macs(build(1.0, DIM), 224) / 1e6 for name, build in FAMILIES.items()}
    assert found["mobilenet-v2"] == pytest.approx(300 - 20, rel=0.02)
    assert found["mobilenet-v3-small"] == pytest.approx(56, rel=0.03)
    assert found["shufflenet-v2"] == pytest.approx(146, rel=0.03)


def test_a_shuffle_interleaves_what_passed_and_what_was_filtered() -> None:
    torch.manual_seed(0)
    block = _Shuffle(8, 8, 1).eval()
    images = torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(images)[:, ::2], images[:, :4])
        assert torch.allclose(block(images)[:, 1::2], block.filtered(images[:, 4:]))


@pytest.mark.parametrize("family", ["mobilenet-v3-small", "shufflenet-v2"])
def test_an_exported_one_computes_the_same(family: str) -> None:
    torch.manual_seed(0)
    net = FAMILIES[family](0.2, DIM).eval()
    images = torch.randn(3, SIZE_PX, SIZE_PX, 3)
    with torch.no_grad():
        wanted = net(images.permute(0, 3, 1, 2))
    found = open_runtime(export_onnx_fp32(net, SIZE_PX), "onnxruntime").run(images.numpy())
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-4)
