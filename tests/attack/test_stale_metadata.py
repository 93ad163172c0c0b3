"""Old truths served as new: freeze, rollback, mix-and-match."""

import json
import shutil
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata

from compat.errors import UntrustedError
from compat.manifest import Channel, channel_target
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import utc_now
from registry.roles import meta_of


@pytest.fixture
def device(small):
    """On 1.1.0, updated before; what the registry was at 1.0.0 is kept in ``old``."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    assert device.update().version == "1.0.0"
    shutil.copytree(small.folder, small.base / "old")
    small.publish("1.1.0", seed=2)
    assert device.update().version == "1.1.0"
    return device


def test_a_frozen_registry_is_noticed_when_its_timestamp_expires(small, running):
    small.now = lambda: utc_now() - timedelta(hours=23)
    small.publish("1.0.0", seed=1)
    device = small.device()
    assert device.update().version == "1.0.0"
    before = running(device)
    small.now = lambda: utc_now() - timedelta(hours=25)  # nobody has signed for over a day
    small.repository.refresh()
    with pytest.raises(UntrustedError, match="expired"):
        device.update()
    assert running(device) == before
    small.now = utc_now
    small.repository.refresh()
    assert device.update().changed is False


def test_a_family_that_nobody_signs_for_any_longer(small, running):
    small.now = lambda: utc_now() - timedelta(days=91)
    small.publish("1.0.0", seed=1)
    small.now = utc_now
    uris = small.base / "keys" / "keys.json"
    kept = {key: uri for key, uri in json.loads(uris.read_bytes()).items() if "furn" not in uri}
    uris.write_text(json.dumps(kept))
    small.repository.refresh()  # has no key of the family: leaves it as it is
    device = small.device()
    with pytest.raises(UntrustedError, match="expired"):
        device.update()
    assert device.status().current is None


def test_the_whole_registry_is_rolled_back(small, device, running):
    before = running(device)
    shutil.rmtree(small.folder)
    shutil.copytree(small.base / "old", small.folder)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_the_timestamp_is_rolled_back(small, device, running):
    before = running(device)
    shutil.copy(small.base / "old/metadata/timestamp.json", small.folder / "metadata")
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def sign(small, role, document):
    keys = KeyFolder(small.base / "keys")
    document.sign(keys.signers([keys.create(role)])[0])
    return document.to_bytes()


def timestamp_for(small, snapshot, blob):
    path = small.folder / "metadata" / "timestamp.json"
    timestamp = Metadata.from_file(str(path))
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = meta_of(snapshot, blob)
    path.write_bytes(sign(small, "timestamp", timestamp))


def test_the_snapshot_is_rolled_back_with_a_stolen_timestamp_key(small, device, running):
    before = running(device)
    old = small.folder / "metadata" / "3.snapshot.json"
    timestamp_for(small, Metadata.from_file(str(old)), old.read_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize("role", ["furniture", "targets"])
def test_a_role_is_rolled_back_with_stolen_online_keys(small, device, running, role):
    before = running(device)
    folder = small.folder / "metadata"
    snapshot = Metadata.from_file(str(folder / "4.snapshot.json"))
    version = snapshot.signed.meta[f"{role}.json"].version - 1
    old = folder / f"{version}.{role}.json"
    snapshot.signed.meta[f"{role}.json"] = meta_of(Metadata.from_file(str(old)), old.read_bytes())
    snapshot.signed.version += 1
    blob = sign(small, "snapshot", snapshot)
    (folder / "5.snapshot.json").write_bytes(blob)
    timestamp_for(small, snapshot, blob)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_an_old_channel_in_the_place_of_the_new_one(small, device, running):
    """Both pointers are of one length and were signed once."""
    folder = small.folder / "targets" / "furniture" / "channels"
    old, new = (
        next(path for path in folder.iterdir() if version in path.read_bytes())
        for version in (b'"1.0.0"', b'"1.1.0"')
    )
    before = running(device)
    new.write_bytes(old.read_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("4.snapshot.json", "5.snapshot.json"), ("3.furniture.json", "4.furniture.json")],
)
def test_mix_and_match_old_metadata_under_a_new_name(small, device, running, old, new):
    """Each file was right at some time, together they never were."""
    small.publish("1.2.0", seed=3)
    before, folder = running(device), small.folder / "metadata"
    shutil.copy(folder / old, folder / new)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_a_device_that_missed_releases_goes_straight_to_the_newest(small, device):
    small.publish("1.2.0", seed=3)
    small.publish("1.3.0", seed=4)
    assert device.update().version == "1.3.0"


def test_a_demotion_is_a_new_pointer_and_is_followed(small, device):
    """The only way down: the family's own key signs for it."""
    pointer = Channel(family="furniture", channel="stable", version="1.0.0")
    small.repository.sign_targets(
        "furniture", {}, moving={channel_target("furniture", "stable"): pointer.to_bytes()}
    )
    assert device.update().version == "1.0.0"
    assert device.status().previous.version == "1.1.0"


def test_the_publisher_does_not_build_on_an_old_document_under_a_new_name(small, device, candidate):
    """Signed by the right key, once: publishing on top would silently drop 1.1.0."""
    folder = small.folder / "metadata"
    shutil.copy(folder / "2.furniture.json", folder / "3.furniture.json")
    before = {path: path.read_bytes() for path in small.files()}
    with pytest.raises(UntrustedError):
        publish(small.repository, candidate("1.2.0", seed=3))
    assert {path: path.read_bytes() for path in small.files()} == before
