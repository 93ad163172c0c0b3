"""A device in a staged rollout: who takes what, and what an attacker cannot make it take."""

import shutil

import pytest

from compat.errors import AdmissionError, UntrustedError, UsageError
from compat.manifest import Channel, Requirements, Rollout, channel_target
from edge.envelope import open_report
from edge.report import report_update
from registry import channels
from registry.publish import publish

FAR_AHEAD = Requirements(min_client="99.0.0")


@pytest.fixture
def device(small):
    """On 1.0.0; 1.1.0 is signed and nobody has it yet."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    assert device.update().version == "1.0.0"
    return device


def offer(small, candidate, **how):
    """1.1.0 on stable, as ``how`` says."""
    publish(small.repository, candidate("1.1.0", seed=2), percent=0)
    small.released["1.1.0"] = None
    return channels.promote(small.repository, "furniture", "1.1.0", **how)


def sign(small, channel: Channel, name: str = "stable") -> None:
    """By the family's own key, past every rule of the verbs."""
    small.repository.sign_targets(
        "furniture", {}, moving={channel_target("furniture", name): channel.to_bytes()}
    )


def staged(percent: float, **over) -> Channel:
    rollout = Rollout(version="1.1.0", percent=percent, **over)
    return Channel(family="furniture", channel="stable", version="1.0.0", rollouts=(rollout,))


def broken_at(manifest) -> frozenset[str]:
    return frozenset(each.digest for one in manifest.members for each in one.artifacts)


def test_attack_an_older_pointer_of_a_larger_rollout_is_replayed(small, candidate, device, running):
    """The registry as it was at 100% comes back after the release was taken back."""
    offer(small, candidate, percent=100, requires=Requirements(systems=("Linux",)))
    assert device.update().version == "1.1.0"
    shutil.copytree(small.folder, small.base / "old")
    channels.demote(small.repository, "furniture", "stable")
    assert device.update().version == "1.0.0"  # down, because a newer pointer says so
    before = running(device)
    shutil.rmtree(small.folder)
    shutil.copytree(small.base / "old", small.folder)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_attack_the_pointer_before_a_pause_is_put_in_its_place(small, candidate, device, running):
    offer(small, candidate, percent=100, requires=Requirements(systems=("Linux",)))
    old = small.copied(device, "taken")
    assert old.update().version == "1.1.0"
    folder = small.folder / "targets/furniture/channels"
    before_pause = {path: path.read_bytes() for path in folder.iterdir()}
    channels.pause(small.repository, "furniture", "stable")
    assert device.update().changed is False
    assert old.update().version == "1.1.0"  # who has it keeps it
    before = running(device)
    [paused] = set(folder.iterdir()) - set(before_pause)
    for blob in before_pause.values():
        paused.write_bytes(blob)
        with pytest.raises(UntrustedError):
            device.update()
        assert running(device) == before


def test_attack_the_percent_is_changed_on_the_way(small, candidate, device, running):
    """One digit of a signed pointer, the length as before."""
    offer(small, candidate, percent=0, halt=None)
    assert device.update().changed is False
    before = running(device)
    for path in (small.folder / "targets/furniture/channels").iterdir():
        path.write_bytes(path.read_bytes().replace(b'"percent": 0.0', b'"percent": 100'))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize("lie", [{"family": "shoes"}, {"channel": "canary"}])
def test_attack_a_channel_that_says_it_is_another(small, candidate, device, running, lie):
    offer(small, candidate, percent=0)
    sign(small, staged(0))
    assert device.update().changed is False
    before = running(device)
    sign(small, staged(100).model_copy(update=lie))
    with pytest.raises(UntrustedError, match="says that it is another"):
        device.update()
    assert running(device) == before


def test_attack_a_client_that_is_too_old_is_told_to_take_it(small, candidate, device, running):
    offer(small, candidate, percent=100, requires=Requirements(min_client="0.1.0"))
    assert small.copied(device, "good").update().version == "1.1.0"
    sign(small, staged(100, requires=FAR_AHEAD))
    assert device.update().changed is False  # it takes the matrix, not the release
    assert device.active().manifest.version == "1.0.0"
    before = running(device)
    sign(small, staged(100, requires=Requirements.model_validate({"newer_rule": 1})))
    assert device.update().changed is False
    assert running(device) == before


def test_attack_a_percent_that_is_none_a_format_of_the_future(small, candidate, device, running):
    offer(small, candidate, percent=0)
    assert device.update().changed is False
    before, good = running(device), staged(0).to_bytes()
    for old, new in ((b'"percent": 0.0', b'"percent": -1'), (b'"format": 1', b'"format": 2')):
        name = channel_target("furniture", "stable")
        small.repository.sign_targets("furniture", {}, moving={name: good.replace(old, new)})
        with pytest.raises(UntrustedError, match="not a channel that this version reads"):
            device.update()
        assert running(device) == before


def test_attack_a_release_that_nobody_signed_is_rolled_out(small, device, running):
    before = running(device)
    sign(small, staged(100))
    with pytest.raises(UntrustedError, match=r"nobody signed for a release 1\.1\.0"):
        device.update()
    assert running(device) == before


def test_a_pointer_without_rollouts_is_read_as_ever(small, device):
    name = channel_target("furniture", "stable")
    old = b'{"channel": "stable", "family": "furniture", "format": 1, "version": "1.0.0"}'
    small.repository.sign_targets("furniture", {}, moving={name: old})
    assert device.update().changed is False
    assert Channel.from_bytes(old.replace(b"}", b', "hue": 3}')).to_bytes().count(b'"hue": 3') == 1


def test_a_device_on_which_the_new_release_fails_takes_the_settled_one(small, candidate, running):
    """A new device too: it is in the rollout, and has nothing yet."""
    small.publish("1.0.0", seed=1)
    manifest = publish(small.repository, candidate("1.1.0", seed=2), percent=0)
    channels.promote(
        small.repository,
        "furniture",
        "1.1.0",
        percent=100,
        requires=Requirements(systems=("Linux",)),
    )
    assert small.device("good").update().version == "1.1.0"
    device = small.device(broken=broken_at(manifest))
    outcome = device.update()
    assert (outcome.version, outcome.changed) == ("1.0.0", True)
    assert "1.1.0 does not work on this device" in outcome.refused[0]
    before = running(device)
    assert device.update().changed is False
    assert running(device) == before
    met = open_report(report_update(device.home), "x").report.met
    assert [(each.version, each.works) for each in met] == [("1.1.0", False), ("1.0.0", True)]
    assert (device.home / "device_id").read_text().strip() not in str(met)
    channels.demote(small.repository, "furniture", "stable")
    assert device.update().changed is False


def test_a_device_on_which_nothing_works_says_so_and_reports_it(small):
    manifest = small.publish("1.0.0", seed=1)
    device = small.device(broken=broken_at(manifest))
    with pytest.raises(UsageError, match="met no release"):
        report_update(device.home)
    with pytest.raises(AdmissionError, match=r"1\.0\.0 does not work"):
        device.update()
    [met] = open_report(report_update(device.home), "x").report.met
    assert (met.version, met.works) == ("1.0.0", False)


def test_a_device_follows_the_channel_that_it_was_told(small, candidate, device):
    publish(small.repository, candidate("1.1.0", seed=2), channel="canary")
    assert device.update().version == "1.0.0"
    root = small.repository.trusted_root
    device.init(str(small.folder), root, "furniture", channel="canary")
    assert device.update().version == "1.1.0"
    device.init(str(small.folder), root, "furniture")
    assert device.update().version == "1.0.0"
