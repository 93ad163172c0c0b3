"""Keys are lost and stolen: what was right before is right after, what the thief signs is not."""

from copy import deepcopy
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata

from compat.errors import UntrustedError, UsageError
from registry.ceremony import rotation_draft, signed_draft
from registry.keys import KeyFolder
from registry.repository import utc_now
from registry.roles import keys_of, meta_of


def rotate(small, role: str) -> None:
    """A new key for ``role`` in the place of all it had."""
    small.repository.install_root(next_root(small, role))


def next_root(small, role: str):
    keys, trusted = KeyFolder(small.base / "keys"), trusted_root(small)
    old = [key.keyid for key in keys_of(trusted, role)]
    draft = rotation_draft(trusted, role, add=[keys.create_next(role)], remove=old, now=small.now())
    signers = keys.signers([*keys_of(trusted, "root"), *keys_of(draft.signed, "root")])
    return signed_draft(draft, signers)


def trusted_root(small):
    return Metadata.from_bytes(KeyFolder(small.base / "keys").root).signed


@pytest.fixture
def device(small):
    """On 1.1.0; 1.0.0 is published as well."""
    small.publish("1.0.0", seed=1)
    small.publish("1.1.0", seed=2)
    device = small.device()
    device.update()
    return device


def stolen(small, role: str):
    """The signer that a thief copied, before anybody noticed."""
    keys = KeyFolder(small.base / "keys")
    return keys.signers(keys_of(trusted_root(small), role))[0]


def fast_forward(small, timestamp, snapshot, *, versions: int = 10**6):
    """What a thief of both online keys does: nothing older than this is ever believed again."""
    folder = small.folder / "metadata"
    time = Metadata.from_file(str(folder / "timestamp.json"))
    shot = Metadata.from_file(str(folder / f"{time.signed.snapshot_meta.version}.snapshot.json"))
    shot.signed.version += versions
    shot.sign(snapshot)
    (folder / f"{shot.signed.version}.snapshot.json").write_bytes(shot.to_bytes())
    time.signed.version += versions
    time.signed.snapshot_meta = meta_of(shot, shot.to_bytes())
    time.sign(timestamp)
    (folder / "timestamp.json").write_bytes(time.to_bytes())


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_every_top_key_can_be_replaced(small, device, running, role):
    """The device walks to the new root, and an honest release still reaches it."""
    before, first = running(device), small.repository.trusted_root
    rotate(small, role)
    assert device.update().changed is False
    assert running(device) == before
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"
    newcomer = small.open(small.base / "newcomer")
    newcomer.init(str(small.folder), first, "furniture")  # it was given the first root
    assert newcomer.update().version == "1.2.0"


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_lost_online_key(small, device, role):
    """Nobody can sign freshness any longer until root names another key."""
    (small.base / "keys" / f"{role}.pem").unlink()
    with pytest.raises(UsageError, match=role):
        small.publish("1.2.0", seed=3)
    rotate(small, role)
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_stolen_online_key_is_refused_once_it_is_replaced(small, device, running, role):
    keys = {each: stolen(small, each) for each in ("timestamp", "snapshot")}
    good = small.copied(device, "good")
    fast_forward(small, keys["timestamp"], keys["snapshot"], versions=1)
    assert good.update().changed is False  # before the rotation the thief is believed
    rotate(small, role)
    assert device.update().changed is False
    before = running(device)
    still_ours = {each: stolen(small, each) for each in ("timestamp", "snapshot")}
    fast_forward(small, **{**still_ours, role: keys[role]})
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_fast_forward_and_recovery(small, device, running):
    """A thief takes versions to a million; new online keys make devices forget them (TUF 6.1)."""
    fast_forward(small, stolen(small, "timestamp"), stolen(small, "snapshot"))
    assert device.update().changed is False  # it has seen version 1,000,000 now
    before = running(device)
    for role in ("timestamp", "snapshot"):
        rotate(small, role)
    assert device.update().changed is False
    assert running(device) == before
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"
    assert small.device("new").update().version == "1.2.0"


def test_recovery_when_the_thief_broke_the_registry(small, device, running):
    """Nothing that online keys signed is left; what offline keys signed is enough."""
    before = running(device)
    for path in (small.folder / "metadata").glob("*snapshot.json"):
        path.write_bytes(b"{}")
    (small.folder / "metadata" / "timestamp.json").write_bytes(b"mine now")
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before
    for role in ("timestamp", "snapshot"):
        rotate(small, role)
    assert device.update().changed is False
    assert running(device) == before


def test_a_stolen_family_key_is_refused_once_it_is_replaced(small, device, running):
    keys = KeyFolder(small.base / "keys")
    thief = keys.signers([keys.create("furniture")])[0]
    small.repository.rotate_family("furniture")
    assert device.update().changed is False
    before = running(device)
    newest = max(
        (small.folder / "metadata").glob("*.furniture.json"),
        key=lambda path: int(path.name.partition(".")[0]),
    )
    document = Metadata.from_file(str(newest))
    document.signed.version += 1
    document.sign(thief)
    document_blob = document.to_bytes()
    newest.with_name(f"{document.signed.version}.furniture.json").write_bytes(document_blob)
    folder = small.folder / "metadata"
    time = Metadata.from_file(str(folder / "timestamp.json"))
    shot = Metadata.from_file(str(folder / f"{time.signed.snapshot_meta.version}.snapshot.json"))
    shot.signed.meta["furniture.json"] = meta_of(document, document_blob)
    shot.signed.version += 1
    shot.sign(stolen(small, "snapshot"))
    (folder / f"{shot.signed.version}.snapshot.json").write_bytes(shot.to_bytes())
    time.signed.version += 1
    time.signed.snapshot_meta = meta_of(shot, shot.to_bytes())
    time.sign(stolen(small, "timestamp"))
    (folder / "timestamp.json").write_bytes(time.to_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_without_the_key_of_targets_no_family_gets_another(small, device):
    before = {path: path.read_bytes() for path in small.files()}
    keys = small.base / "keys" / "keys.json"
    name = KeyFolder(small.base / "keys").create("targets").keyid
    keys.write_text(keys.read_text().replace(name, "0" * 64))
    with pytest.raises(UsageError, match="key of targets"):
        small.repository.rotate_family("furniture")
    assert {path: path.read_bytes() for path in small.files()} == before
    assert not (small.base / "keys" / "furniture-2.pem").exists()


def test_a_root_of_the_old_root_key_is_refused_after_its_rotation(small, device, running):
    thief = stolen(small, "root")
    rotate(small, "root")
    assert device.update().changed is False
    before = running(device)
    forged = Metadata(deepcopy(trusted_root(small)))
    forged.signed.version += 1
    forged.signed.expires = (utc_now() + timedelta(days=1)).replace(microsecond=0)
    forged.sign(thief)
    name = f"{forged.signed.version}.root.json"
    (small.folder / "metadata" / name).write_bytes(forged.to_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


@pytest.mark.parametrize("role", ["timestamp", "targets", "root"])
def test_power_cut_while_a_root_is_installed(small, device, cut_power, power_cut, role):
    """Each repeat of the same ceremony completes it; no version of root is ever signed twice."""
    draft = next_root(small, role)
    for left in range(100):
        power = cut_power(left)
        try:
            small.repository.install_root(draft)
        except power_cut:
            power.left = 10**9
        else:
            power.left = 10**9
            break
    assert left > 3, "nothing was written: the attack hit nothing"
    assert device.update().changed is False
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"


def test_a_root_below_the_threshold(small, device, running):
    """Two of three must sign: one holder who is bribed, or signs twice, changes nothing."""
    keys = KeyFolder(small.base / "keys")
    trusted = trusted_root(small)
    added = [keys.create(name) for name in ("ann", "bob")]
    draft = rotation_draft(trusted, "root", add=added, remove=[], threshold=2, now=small.now())
    signers = keys.signers(keys_of(draft.signed, "root"))
    small.repository.install_root(signed_draft(draft, signers[:2]))
    assert device.update().changed is False
    before = running(device)
    renewal = rotation_draft(draft.signed, "root", add=[], remove=[], now=small.now())
    path = small.folder / "metadata" / f"{renewal.signed.version}.root.json"
    path.write_bytes(signed_draft(renewal, [signers[1], signers[1]]).to_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before
    path.write_bytes(signed_draft(renewal, signers[:2]).to_bytes())
    assert device.update().changed is False
