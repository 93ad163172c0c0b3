"""A small update moves what it may and nothing else, and keeps every channel's range."""

import pytest
import torch
from pydantic import ValidationError

from compat.errors import CorruptError, UsageError
from compat.preprocess import Preprocess
from server_models.checkpoint import save_weights
from server_models.config import FamilyConfig
from server_models.config_section import Schedule
from server_models.edge_net import SPECS, EdgeNet
from server_models.member_config import MemberConfig, UpdateConfig
from server_models.small_update import begin_update, inputs_of, keep_ranges, still_statistics


@pytest.fixture
def released(tmp_path):
    torch.manual_seed(0)
    net = EdgeNet(SPECS["kin-s"], 16)
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    save_weights(tmp_path / "weights.safetensors", net, {})
    return tmp_path / "weights.safetensors"


def moved(released, learns) -> tuple[EdgeNet, dict]:
    """A few steps at a rate that no publisher would take."""
    torch.manual_seed(1)
    net = EdgeNet(SPECS["kin-s"], 16)
    begin_update(net, UpdateConfig(weights=released, learns=learns))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    still_statistics(net)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    return net, before


@pytest.mark.parametrize("learns", ["embedding", "weights"])
def test_only_what_may_learn_moves(released, learns):
    net, before = moved(released, learns)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"embed.weight", "embed.bias"} <= changed
    weighed = {f"{n}.weight" for n, m in net.named_modules() if hasattr(m, "in_channels")}
    if learns == "embedding":
        assert changed == {"embed.weight", "embed.bias"}
    else:
        assert weighed <= changed
        assert not [name for name in changed if "running" in name]


def test_every_channel_keeps_its_range(released):
    """So every exporter that takes its scale from the largest weight takes the same."""
    net, before = moved(released, "weights")
    torch.nn.init.constant_(net.embed.weight[3], 9.0)
    keep_ranges(net, before)
    after, ranges_moved = net.state_dict(), 0
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            old, new = (each[f"{name}.weight"].flatten(1) for each in (before, after))
            assert torch.equal(old.abs().amax(1), new.abs().amax(1)), name
            ranges_moved += int(not torch.equal(old, new))
    assert ranges_moved > 5, "it moved all the same"


def member(**more) -> MemberConfig:
    return MemberConfig(
        name="m",
        backbone="kin-s",
        preprocess=Preprocess(size_px=64),
        schedule=Schedule(steps=1, learning_rate=1e-3),
        **more,
    )


def test_a_member_without_update_is_digested_as_before(released):
    assert "update" not in member().model_dump(mode="json")
    update = UpdateConfig(weights=released)
    digest = inputs_of(member(update=update))["update"]["weights"]
    moved_file = released.with_name("elsewhere.safetensors")
    moved_file.write_bytes(released.read_bytes())
    again = inputs_of(member(update=UpdateConfig(weights=moved_file)))["update"]["weights"]
    assert digest == again, "what decides is in the file, not where it lies"


def test_bad_input_is_named(released, tmp_path):
    net = EdgeNet(SPECS["kin-s"], 16)
    with pytest.raises(UsageError, match="gone"):
        begin_update(net, UpdateConfig(weights=tmp_path / "gone"))
    with pytest.raises(CorruptError, match="does not hold"):
        begin_update(EdgeNet(SPECS["kin-s"], 8), UpdateConfig(weights=released))
    with pytest.raises(ValidationError):
        UpdateConfig(weights=released, learns="everything")


def test_a_member_by_adamw_is_digested_as_when_there_was_no_other(family: FamilyConfig) -> None:
    """Else every finished run would be trained anew; Muon's differ from them."""
    member = family.members[0]
    old = inputs_of(member.model_copy(update={"optimizer": "adamw"}))
    assert old == {name: value for name, value in inputs_of(member).items() if name != "optimizer"}
    assert inputs_of(member)["optimizer"] == "muon"
