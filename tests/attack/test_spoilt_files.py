"""Whoever can write to the bucket changes bytes that were signed."""

from pathlib import Path

import pytest

from compat.errors import OfflineError, UntrustedError


@pytest.mark.parametrize("where", [0.0, 0.5, 0.9999], ids=["first", "middle", "last"])
def test_one_byte_flipped_in_any_published_file(small, running, where):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    small.publish("1.1.0", seed=2)
    good = small.copied(device, "good")
    good.update()
    after = running(good)
    assert after[:1] == ("1.1.0",)
    assert after[2] != before[2]

    refused = set()
    for path in small.files():
        original = path.read_bytes()
        if not original:
            continue
        spoilt = bytearray(original)
        spoilt[int(where * len(spoilt))] ^= 0x04
        path.write_bytes(spoilt)
        victim = small.copied(device, "victim")
        try:
            victim.update()
        except UntrustedError:
            refused.add(path.relative_to(small.folder))
            assert running(victim) == before, path
        else:
            assert running(victim) == after, path
        path.write_bytes(original)

    assert refused == on_the_way(small, good)


def on_the_way(small, device):
    """The files that an update from 1.0.0 to 1.1.0 reads; everything else is not this device's."""
    slot = device.status().current
    metadata, targets = small.folder / "metadata", small.folder / "targets" / "furniture"
    names = ("timestamp.json", "4.snapshot.json", "3.furniture.json")
    files = [metadata / name for name in names]
    files += [next(targets.glob(f"blobs/{each.digest}.*")) for each in (slot.artifact, slot.golden)]
    files += targets.glob("releases/*.1.1.0.json")
    moving = (*targets.glob("channels/*"), *targets.glob("matrix/*"))
    files += [path for path in moving if b'"1.1.0"' in path.read_bytes()]
    return {path.relative_to(small.folder) for path in files}


def test_one_byte_flipped_never_hands_a_new_device_anything(small):
    manifest = small.publish("1.0.0", seed=1)
    wanted = manifest.members[0].artifacts[0].digest
    for i, path in enumerate(small.files()):
        original = path.read_bytes()
        if not original:
            continue
        path.write_bytes(bytes([original[0] ^ 0x04]) + original[1:])
        device = small.device(f"new-{i}")
        try:
            device.update()
        except UntrustedError:
            assert device.status().current is None, path
        else:
            assert device.active().artifact.digest == wanted, path
        path.write_bytes(original)


def stored(small, digest: str) -> Path:
    return small.folder / "targets" / "furniture" / "blobs" / f"{digest}.{digest}"


@pytest.fixture
def two_releases(small):
    """A device on 1.0.0 and a registry that offers 1.1.0."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    small.publish("1.1.0", seed=2)
    return device


def first_artifact(small, version: str):
    return small.released[version].members[0].artifacts[0]


def test_an_artifact_is_replaced_by_another_of_the_same_length(small, two_releases, running):
    before = running(two_releases)
    mine = stored(small, first_artifact(small, "1.1.0").digest)
    other = stored(small, small.released["1.1.0"].members[1].artifacts[0].digest)
    assert mine.stat().st_size == other.stat().st_size
    mine.write_bytes(other.read_bytes())
    with pytest.raises(UntrustedError):
        two_releases.update()
    assert running(two_releases) == before


def test_the_manifest_of_this_release_with_the_artifact_of_the_last(small, two_releases, running):
    """Uptane's partial bundle: each half was signed once, together they never were."""
    before = running(two_releases)
    old, new = (stored(small, first_artifact(small, each).digest) for each in ("1.0.0", "1.1.0"))
    assert old.stat().st_size == new.stat().st_size
    new.write_bytes(old.read_bytes())
    with pytest.raises(UntrustedError):
        two_releases.update()
    assert running(two_releases) == before


@pytest.mark.parametrize("change", [lambda blob: blob + b"\0", lambda blob: blob[:-1]])
def test_an_artifact_is_longer_or_shorter_than_signed(small, two_releases, running, change):
    before = running(two_releases)
    path = stored(small, first_artifact(small, "1.1.0").digest)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UntrustedError):
        two_releases.update()
    assert running(two_releases) == before


@pytest.mark.parametrize("name", ["timestamp.json", "4.snapshot.json", "3.furniture.json"])
def test_endless_metadata_is_not_read_to_its_end(small, two_releases, running, name):
    before = running(two_releases)
    path = small.folder / "metadata" / name
    with path.open("r+b") as file:
        file.truncate(2**33)  # sparse: eight GiB of zeros for nothing
    with pytest.raises(UntrustedError):
        two_releases.update()
    assert running(two_releases) == before


def test_any_file_that_is_withheld(small, two_releases, running):
    before = running(two_releases)
    missed = set()
    for path in small.files():
        hidden = path.rename(path.with_name("hidden"))
        victim = small.copied(two_releases, "victim")
        try:
            victim.update()
        except OfflineError:
            missed.add(path.relative_to(small.folder))
            assert running(victim) == before, path
        else:
            assert victim.active().manifest.version == "1.1.0", path
        hidden.rename(path)
    two_releases.update()
    assert missed == on_the_way(small, two_releases)


def test_what_an_update_refused_is_mended_by_the_next(small, two_releases):
    path = stored(small, first_artifact(small, "1.1.0").digest)
    original = path.read_bytes()
    path.write_bytes(b"x" * len(original))
    with pytest.raises(UntrustedError):
        two_releases.update()
    assert two_releases.status().last_update.exit_code == 4
    path.write_bytes(original)
    assert two_releases.update().version == "1.1.0"
    assert two_releases.status().last_update.error is None
