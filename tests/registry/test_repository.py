"""The registry as signed static files: keys, roles, freshness."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer
from tuf.api.metadata import Metadata, Timestamp

from compat.errors import RefusedError, UntrustedError, UsageError
from compat.files import digest_of
from compat.manifest import Blob
from edge.client import RegistryClient
from registry.keys import PASSPHRASE_ENV, KeyFolder
from registry.repository import Repository, utc_now
from registry.roles import first_root, sign_next, verified

WEIGHTS = Blob(digest=digest_of(b"weights"), size_bytes=7)
NAME = f"furniture/blobs/{WEIGHTS.digest}"
BLOB = {NAME: b"weights"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    made.create()
    made.add_family("furniture")
    return made


def at(repository: Repository, **ago: float) -> Repository:
    """The same registry in the hands of somebody whose clock is behind by ``ago``."""
    return Repository(
        repository.store.folder, repository.keys, now=lambda: utc_now() - timedelta(**ago)
    )


def document(repository: Repository, name: str):
    return Metadata.from_file(str(repository.store.folder / "metadata" / name))


def served(repository: Repository) -> dict[Path, bytes]:
    return {
        path: path.read_bytes() for path in repository.store.folder.rglob("*") if path.is_file()
    }


def fetched(repository: Repository, cache: Path, root: bytes) -> bytes:
    """What a standard client reads."""
    client = RegistryClient(str(repository.store.folder), cache, root)
    client.refresh()
    return client.blob("furniture", WEIGHTS, max_bytes=7)


def test_what_is_signed_is_what_a_client_reads(repository, tmp_path):
    with pytest.raises(UntrustedError, match="nobody signed"):
        fetched(repository, tmp_path / "cache", repository.trusted_root)
    repository.sign_targets("furniture", BLOB, moving={})
    assert fetched(repository, tmp_path / "cache", repository.trusted_root) == b"weights"
    assert repository.read("furniture", NAME, max_bytes=7) == b"weights"
    assert repository.read("furniture", "furniture/blobs/bb", max_bytes=7) is None
    assert repository.families == ("furniture",)


def test_every_role_has_a_key_of_its_own(repository):
    root = document(repository, "1.root.json").signed
    keys = [root.roles[role].keyids for role in ("root", "targets", "snapshot", "timestamp")]
    delegations = document(repository, "2.targets.json").signed.delegations
    keys.append(delegations.roles["furniture"].keyids)
    assert all(len(each) == 1 for each in keys)
    assert len({each[0] for each in keys}) == 5
    assert root.consistent_snapshot is True


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("furniture/blobs/aa", True),
        ("furniture/releases/1.0.0.json", True),
        ("furniture", False),
        ("furniture/aa", False),
        ("furniture/a/b/c", False),
        ("furniture-2/blobs/aa", False),
        ("shoes/blobs/aa", False),
    ],
)
def test_a_familys_key_signs_for_its_own_folder_only(repository, name, may):
    delegations = document(repository, "2.targets.json").signed.delegations
    assert delegations.roles["furniture"].is_delegated_path(name) is may


def test_private_keys_are_nobody_elses_and_not_in_the_registry(repository):
    folder = repository.keys.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.glob("*.pem"))) == 5
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert not any(b"PRIVATE" in blob for blob in served(repository).values())


def test_keys_in_the_registry_are_refused(tmp_path):
    """They would be served to everybody."""
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "registry" / "keys"))
    with pytest.raises(UsageError, match="everybody reads"):
        repository.create()
    assert list(tmp_path.iterdir()) == []


def test_keys_are_encrypted_when_a_passphrase_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE_ENV, "correct horse")
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    assert b"ENCRYPTED" in (tmp_path / "keys" / "root.pem").read_bytes()
    repository.refresh()
    before = served(repository)
    for wrong in ("battery staple", ""):
        monkeypatch.setenv(PASSPHRASE_ENV, wrong)
        with pytest.raises(UsageError, match=PASSPHRASE_ENV):
            repository.refresh()
    assert served(repository) == before


def test_making_a_registry_again_changes_nothing(repository):
    before = served(repository)
    repository.create()
    repository.add_family("furniture")
    assert served(repository) == before


def test_a_registry_of_other_keys_is_not_taken_over(repository, tmp_path):
    before = served(repository)
    stranger = Repository(repository.store.folder, KeyFolder(tmp_path / "other"))
    with pytest.raises(UntrustedError):
        stranger.create()
    with pytest.raises(UntrustedError):
        stranger.refresh()
    assert served(repository) == before


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "", "..", "A", "a/b"])
def test_names_that_no_family_can_have(repository, name):
    before = served(repository)
    with pytest.raises(UsageError):
        repository.add_family(name)
    assert served(repository) == before


def test_a_family_that_nobody_added(repository):
    with pytest.raises(UsageError, match="--family shoes"):
        repository.sign_targets("shoes", {"shoes/blobs/aa": b"x"}, moving={})


def test_what_is_published_stays_as_it_is(repository):
    repository.sign_targets("furniture", BLOB, moving={})
    before = served(repository)
    with pytest.raises(RefusedError):
        repository.sign_targets("furniture", {NAME: b"other"}, moving={})
    assert served(repository) == before
    repository.sign_targets("furniture", BLOB, moving={"furniture/channels/stable.json": b"1"})
    repository.sign_targets("furniture", {}, moving={"furniture/channels/stable.json": b"2"})
    assert repository.read("furniture", "furniture/channels/stable.json", max_bytes=1) == b"2"


def test_a_spoilt_leftover_under_a_targets_name_is_replaced(repository, tmp_path):
    """Somebody's copy into the bucket broke off: the next publish does not take it for done."""
    stored = repository.store.folder / f"targets/furniture/blobs/{WEIGHTS.digest}.{WEIGHTS.digest}"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"weightz")
    repository.sign_targets("furniture", BLOB, moving={})
    assert fetched(repository, tmp_path / "cache", repository.trusted_root) == b"weights"


def test_refresh_signs_the_timestamp_and_leaves_what_is_fresh(repository):
    before = document(repository, "timestamp.json").signed
    expires = repository.refresh()
    after = document(repository, "timestamp.json").signed
    assert after.version == before.version + 1
    assert after.snapshot_meta == before.snapshot_meta
    assert set(expires) == {"root", "targets", "furniture", "snapshot", "timestamp"}
    assert expires["timestamp"] - utc_now() < timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "renewed"),
    [
        (3, set()),
        (4, {"snapshot"}),
        (46, {"snapshot", "furniture"}),
        (400, {"snapshot", "furniture", "targets", "root"}),
    ],
)
def test_refresh_renews_what_is_past_half_of_its_life(tmp_path, days, renewed):
    """Also when all of it has expired: a registry that was left alone can be saved."""
    long_ago = Repository(
        tmp_path / "registry",
        KeyFolder(tmp_path / "keys"),
        now=lambda: utc_now() - timedelta(days=days),
    )
    long_ago.create()
    long_ago.add_family("furniture")
    long_ago.sign_targets("furniture", BLOB, moving={})
    first_root = long_ago.trusted_root
    was = long_ago.refresh()
    repository = at(long_ago)
    expires = repository.refresh()
    changed = {role for role, when in expires.items() if when - was[role] > timedelta(hours=1)}
    assert changed == renewed | {"timestamp"}
    assert fetched(repository, tmp_path / "cache", first_root) == b"weights"


def test_a_machine_with_the_online_keys_only_can_refresh_and_not_publish(repository):
    """Root, targets and family keys may live offline."""
    for name in ("root", "targets", "furniture"):
        (repository.keys.folder / f"{name}.pem").unlink()
    path = repository.keys.folder / "keys.json"
    uris = json.loads(path.read_bytes())
    online = {key: uri for key, uri in uris.items() if uri[4:8] in ("snap", "time")}
    path.write_text(json.dumps(online))
    at(repository, days=-46).refresh()
    before = served(repository)
    with pytest.raises(UsageError, match="needs 1 signatures"):
        repository.sign_targets("furniture", BLOB, moving={})
    assert served(repository) == before


def test_a_key_may_live_behind_any_signer_uri(repository, monkeypatch):
    """A KMS is another line in keys.json: here one that answers under the scheme ``vault:``."""
    used = []

    class VaultSigner(CryptoSigner):
        @classmethod
        def from_priv_key_uri(cls, priv_key_uri, public_key, secrets_handler=None):
            used.append(priv_key_uri)
            pem = repository.keys.folder / "furniture.pem"
            return Signer.from_priv_key_uri(f"pem:{pem}", public_key)

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "vault", VaultSigner)
    path = repository.keys.folder / "keys.json"
    path.write_text(path.read_text().replace("pem:furniture.pem", "vault:furniture"))
    repository.sign_targets("furniture", BLOB, moving={})
    assert used == ["vault:furniture"]
    path.write_text(path.read_text().replace("vault:furniture", "nowhere:furniture"))
    with pytest.raises(UsageError, match="nowhere:furniture"):
        repository.sign_targets("furniture", {"furniture/blobs/bb": b"x"}, moving={})


def test_a_role_needs_as_many_signatures_as_its_threshold():
    """The shape for N of M."""
    first, second = (CryptoSigner.generate_ed25519() for _ in range(2))
    root = first_root({"timestamp": first.public_key}).signed
    root.add_key(second.public_key, "timestamp")
    root.roles["timestamp"].threshold = 2
    document = Metadata(Timestamp())
    with pytest.raises(UsageError, match="needs 2 signatures"):
        sign_next(document, "timestamp", signers=[first], delegator=root, now=utc_now())
    assert (document.signed.version, document.signatures) == (1, {})
    blob = sign_next(document, "timestamp", signers=[first, second], delegator=root, now=utc_now())
    assert verified(blob, "timestamp", Timestamp, root).signed.version == 2
