"""Metadata that nobody signed, or that the wrong key signed, and names that lead elsewhere."""

import json
import shutil

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile

from compat.errors import CorruptError, UntrustedError, UsageError
from compat.files import digest_of
from compat.manifest import Channel, blob_target, channel_target, manifest_target
from compat.matrix import matrix_target
from compat.wire import canonical_json
from registry.keys import KeyFolder
from registry.matrix import stored_matrix
from registry.publish import publish
from registry.repository import Repository
from registry.roles import meta_of


def forge(small, role: str, change, *, signer=None):
    """Replace ``role``'s newest document, and list it in snapshot and timestamp as its owner would.

    This attacker holds the online keys (snapshot and timestamp), the ones that are stolen first.
    """
    folder, keys = small.folder / "metadata", KeyFolder(small.base / "keys")
    newest = max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))
    document = Metadata.from_file(str(newest))
    change(document.signed)
    document.signed.version += 1
    document.signatures.clear()
    if signer:
        document.sign(signer)
    sign_as_snapshot(small, role, document, keys)


def sign_as_snapshot(small, role: str, document, keys):
    folder = small.folder / "metadata"
    blob = document.to_bytes()
    (folder / f"{document.signed.version}.{role}.json").write_bytes(blob)
    timestamp = Metadata.from_file(str(folder / "timestamp.json"))
    version = timestamp.signed.snapshot_meta.version
    snapshot = Metadata.from_file(str(folder / f"{version}.snapshot.json"))
    snapshot.signed.meta[f"{role}.json"] = meta_of(document, blob)
    snapshot.signed.version += 1
    snapshot.sign(signer_of(keys, "snapshot"))
    blob = snapshot.to_bytes()
    (folder / f"{snapshot.signed.version}.snapshot.json").write_bytes(blob)
    timestamp.signed.snapshot_meta = meta_of(snapshot, blob)
    timestamp.signed.version += 1
    timestamp.sign(signer_of(keys, "timestamp"))
    (folder / "timestamp.json").write_bytes(timestamp.to_bytes())


def signer_of(keys: KeyFolder, role: str):
    return keys.signers([keys.create(role)])[0]


def point_to(version: str, small, family: str = "furniture"):
    """What a forger wants: the channel of ``family`` at ``version``."""
    name = channel_target(family, "stable")
    blob = Channel(family=family, channel="stable", version=version).to_bytes()
    target = TargetFile.from_data(name, blob, ["sha256"])
    path = small.folder / "targets" / target.get_prefixed_paths()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)

    def change(signed):
        signed.targets[name] = target

    return change


@pytest.fixture
def device(small):
    """On 1.1.0; 1.0.0 is published as well."""
    small.publish("1.0.0", seed=1)
    small.publish("1.1.0", seed=2)
    device = small.device()
    device.update()
    return device


def test_the_forger_succeeds_with_the_right_key(small, device):
    """The good path of every forgery below: were one accepted, it would show."""
    keys = KeyFolder(small.base / "keys")
    forge(small, "furniture", point_to("1.0.0", small), signer=signer_of(keys, "furniture"))
    assert device.update().version == "1.0.0"


def test_unsigned_metadata(small, device, running):
    before = running(device)
    forge(small, "furniture", point_to("1.0.0", small))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_metadata_signed_by_a_strangers_key(small, device, running):
    before = running(device)
    forge(small, "furniture", point_to("1.0.0", small), signer=CryptoSigner.generate_ed25519())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_a_strangers_key_that_calls_itself_ours(small, device, running):
    """Right key id, wrong key."""
    before = running(device)
    keys = KeyFolder(small.base / "keys")
    stranger = CryptoSigner.generate_ed25519(keyid=keys.create("furniture").keyid)
    forge(small, "furniture", point_to("1.0.0", small), signer=stranger)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "targets"])
def test_another_role_of_ours_signs_a_family(small, device, running, role):
    """Stolen online keys sign freshness, never content."""
    before = running(device)
    keys = KeyFolder(small.base / "keys")
    forge(small, "furniture", point_to("1.0.0", small), signer=signer_of(keys, role))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_one_familys_key_signs_for_another_family(small, device, running):
    """In its own role document a family may write what it likes: nobody looks there for another."""
    before = running(device)
    small.publish("1.0.0", family="shoes", seed=3)
    shoes = small.device("shoes", family="shoes")
    assert shoes.update().version == "1.0.0"
    keys = KeyFolder(small.base / "keys")
    forge(small, "shoes", point_to("1.0.0", small), signer=signer_of(keys, "shoes"))
    outcome = device.update()
    assert (outcome.changed, outcome.version) == (False, "1.1.0")
    assert running(device) == before


def test_one_familys_key_signs_another_familys_role(small, device, running):
    before = running(device)
    small.publish("1.0.0", family="shoes", seed=3)
    device.update()
    keys = KeyFolder(small.base / "keys")
    forge(small, "furniture", point_to("1.0.0", small), signer=signer_of(keys, "shoes"))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_a_root_of_a_stranger_is_not_followed(small, device, running):
    """A thief of the bucket signs a whole registry anew, next root version included."""
    before = running(device)
    thief = Repository(small.base / "theirs", KeyFolder(small.base / "their-keys"))
    thief.create()
    stolen = Metadata.from_bytes(thief.trusted_root)
    stolen.signed.version = 2
    stolen.sign(signer_of(thief.keys, "root"))
    (small.folder / "metadata" / "2.root.json").write_bytes(stolen.to_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize(
    "version", ["../../../../etc/passwd", "..", "1.0.0/../1.1.0", "/1.0.0", "1.0.0\x00", "*"]
)
def test_a_signed_channel_points_out_of_the_registry(small, device, running, version):
    before = running(device)
    name = channel_target("furniture", "stable")
    tree = {"format": 1, "family": "furniture", "channel": "stable", "version": version}
    small.repository.sign_targets("furniture", {}, moving={name: canonical_json(tree)})
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize("digest", ["../../../device.json", "/etc/passwd", "A" * 64, "0" * 63])
def test_a_signed_manifest_names_a_file_that_is_no_digest(small, device, running, digest):
    before, files = running(device), sorted(device.home.rglob("*"))
    sign_next_release(small, next_release(small, digest=digest))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before
    assert sorted(device.home.rglob("*")) == files


def sign_next_release(small, tree: dict, blobs: dict[str, bytes] | None = None):
    """Sign ``tree`` as the manifest of 1.2.0 and point stable there, past every gate of ours."""
    pointer = Channel(family="furniture", channel="stable", version="1.2.0")
    matrix = stored_matrix(small.repository, "furniture")
    for name in blobs or {}:  # admitted, so that the device tries it
        named = {"artifact_digest": name.rpartition("/")[2]}
        matrix = matrix.with_entries([matrix.entries[1].model_copy(update=named)])
    small.repository.sign_targets(
        "furniture",
        {manifest_target("furniture", "1.2.0"): canonical_json(tree), **(blobs or {})},
        moving={
            channel_target("furniture", "stable"): pointer.to_bytes(),
            matrix_target("furniture"): matrix.to_bytes(),
        },
    )


def next_release(small, **artifact: object) -> dict:
    """The manifest of 1.1.0 as 1.2.0, with its first artifact changed."""
    tree = json.loads(small.released["1.1.0"].to_bytes()) | {"version": "1.2.0"}
    tree["members"][0]["artifacts"][0] |= artifact
    return tree


def test_the_signed_release_of_another_version(small, device, running):
    before = running(device)
    sign_next_release(small, next_release(small) | {"version": "1.0.0"})
    with pytest.raises(UntrustedError, match=r"says that it is 1\.0\.0"):
        device.update()
    assert running(device) == before


def test_the_signed_pointer_of_another_channel(small, device, running):
    before = running(device)
    other = Channel(family="furniture", channel="beta", version="1.0.0").to_bytes()
    small.repository.sign_targets(
        "furniture", {}, moving={channel_target("furniture", "stable"): other}
    )
    with pytest.raises(UntrustedError, match="says that it is another"):
        device.update()
    assert running(device) == before


def test_bytes_signed_under_the_digest_of_others(small, device, running):
    before, digest, others = running(device), "ab" * 32, b"other bytes"
    tree = next_release(small, digest=digest, size_bytes=len(others))
    sign_next_release(small, tree, {blob_target("furniture", digest): others})
    with pytest.raises(CorruptError):
        device.update()
    assert running(device) == before
    assert not (device.home / "blobs" / digest).exists()


@pytest.mark.parametrize(
    ("said", "error"), [(-1, UntrustedError), (+1, CorruptError), (2**30, UntrustedError)]
)
def test_a_signed_manifest_that_is_wrong_about_a_size(small, device, running, said, error):
    """Bounds are those of the manifest: more is not read, less is not whole, too much not asked."""
    before, blob = running(device), b"some artifact"
    digest = digest_of(blob)
    tree = next_release(small, digest=digest, size_bytes=len(blob) + said)
    sign_next_release(small, tree, {blob_target("furniture", digest): blob})
    with pytest.raises(error) as caught:
        device.update()
    assert type(caught.value) is error
    assert running(device) == before
    assert not (device.home / "blobs" / digest).exists()


@pytest.mark.parametrize(
    "name",
    [
        "furniture/../../device.json",
        "../furniture/blobs/x",
        "/furniture/blobs/x",
        "furniture/blobs/../x",
        "furniture/blobs/.hidden",
        "shoes/blobs/x",
        "furniture/x",
        "furniture/blobs/a/b",
    ],
)
def test_the_publisher_signs_no_name_that_leads_elsewhere(small, device, name):
    before = {path: path.read_bytes() for path in small.base.rglob("*") if path.is_file()}
    with pytest.raises(UsageError):
        small.repository.sign_targets("furniture", {name: b"x"}, moving={})
    after = {path: path.read_bytes() for path in small.base.rglob("*") if path.is_file()}
    assert after == before


def test_the_publisher_does_not_sign_what_a_thief_of_the_bucket_wrote(small, device, candidate):
    """Else the next honest release would launder it."""
    path = small.folder / "metadata" / "3.furniture.json"
    tree = json.loads(path.read_bytes())
    tree["signed"]["targets"]["furniture/channels/evil.json"] = tree["signed"]["targets"][
        channel_target("furniture", "stable")
    ]
    path.write_bytes(json.dumps(tree).encode())
    before = {path: path.read_bytes() for path in small.files()}
    with pytest.raises(UntrustedError):
        publish(small.repository, candidate("1.2.0", seed=3))
    assert {path: path.read_bytes() for path in small.files()} == before


def test_the_publisher_does_not_believe_a_served_root(small, device):
    """The registry is replaced by a thief's, root and all; the publisher keeps its own root."""
    thief = Repository(small.base / "theirs", KeyFolder(small.base / "their-keys"))
    thief.create()
    thief.add_family("furniture")
    shutil.rmtree(small.folder)
    shutil.copytree(thief.store.folder, small.folder)
    before = {path: path.read_bytes() for path in small.files()}
    with pytest.raises(UntrustedError):
        small.repository.refresh()
    with pytest.raises(UntrustedError):
        small.repository.create()
    assert {path: path.read_bytes() for path in small.files()} == before
