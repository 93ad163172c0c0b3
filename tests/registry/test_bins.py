"""A family whose targets are listed in bins: the same commands and client, smaller documents."""

from datetime import timedelta

import pytest
from serving import serving
from tiles import SPACE
from tiles_release import candidate_in
from typer.testing import CliRunner

from compat.errors import RefusedError, UntrustedError, UsageError
from compat.files import digest_of
from compat.manifest import Blob, blob_target
from edge.client import RegistryClient
from edge.device import Device
from registry.channels import promote
from registry.cli_ceremony import keys_app
from registry.keys import KeyFolder
from registry.metrics import Metrics
from registry.publish import publish
from registry.registry_app import create_registry_app
from registry.repository import TIMESTAMP, Repository, utc_now
from registry.roles import TOP_ROLES, bins_of, keys_of, meta_of, sign_next
from registry.storage.files import FileStore
from registry.storage.http import HttpStore
from registry.tokens import TokenBook
from registry.upload_guard import RegistryGuard

FAMILY = SPACE.family
BINS = tuple(f"tiles.bin-{n}" for n in range(4))


@pytest.fixture
def repository(tmp_path):
    where = (str(tmp_path / "registry"), "--keys", str(tmp_path / "keys"))
    made = CliRunner().invoke(keys_app, ["init", *where, "--family", FAMILY, "--bins", "4"])
    assert made.exit_code == 0, made.output
    return Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))


def versions(repository):
    return {role: each.signed.version for role, each in repository.state.targets.items()}


def blob(number):
    content = f"weights {number}".encode()
    return {blob_target(FAMILY, digest_of(content)): content}


def device_of(repository, home, url=None):
    device = Device(home)
    device.init(url or str(repository.store), repository.trusted_root, FAMILY)
    return device


def test_a_device_takes_releases_out_of_bins(repository, tmp_path):
    publish(repository, candidate_in(tmp_path))
    device = device_of(repository, tmp_path / "home")
    assert device.update().version == "1.0.0"
    publish(repository, candidate_in(tmp_path, "1.0.1"))
    promote(repository, FAMILY, "1.0.1")
    assert device.update().version == "1.0.1"
    state = repository.state
    assert state.bins(FAMILY) == BINS
    assert not state.family(FAMILY).targets
    assert sum(len(state.targets[each].signed.targets) for each in BINS) == len(
        state.listed(FAMILY)
    )


def test_only_the_bins_that_change_are_signed_anew(repository):
    before = versions(repository)
    content = blob(0)
    repository.sign_targets(FAMILY, content, moving={})
    (name,) = content
    changed = {role for role, version in versions(repository).items() if version != before[role]}
    assert changed == {repository.state.role_of(FAMILY, name)}
    with pytest.raises(RefusedError, match="published with other bytes"):
        repository.sign_targets(FAMILY, {name: b"others"}, moving={})
    assert repository.read(FAMILY, name, max_bytes=99) == content[name]


def test_a_new_key_signs_all_bins_and_the_old_one_none(repository, tmp_path):
    repository.sign_targets(FAMILY, blob(0), moving={})
    old = repository.state.targets[BINS[0]].signatures.keys()
    repository.rotate_family(FAMILY)
    for each in (FAMILY, *BINS):
        assert repository.state.targets[each].signatures.keys() != old
    client = RegistryClient(str(repository.store), tmp_path / "cache", repository.trusted_root)
    client.refresh()
    ((name, content),) = blob(0).items()
    named = Blob(digest=name.rpartition("/")[2], size_bytes=len(content))
    assert client.blob(FAMILY, named, max_bytes=99) == content


def test_bins_are_salvaged_when_the_online_keys_were_stolen(repository, tmp_path):
    publish(repository, candidate_in(tmp_path))
    before = versions(repository)
    where = (str(tmp_path / "registry"), "snapshot", "--keys", str(tmp_path / "keys"))
    done = CliRunner().invoke(keys_app, ["rotate", *where])
    assert done.exit_code == 0, done.output
    assert versions(repository) == before
    assert device_of(repository, tmp_path / "home").update().version == "1.0.0"


def test_attack_a_bin_that_another_family_signed(repository, tmp_path):
    repository.add_family("shoes")
    publish(repository, candidate_in(tmp_path))
    device = device_of(repository, tmp_path / "home")
    assert device.update().version == "1.0.0"
    state, store = repository.state, repository.store
    for name in BINS:  # all that the channel, the manifest and the blobs can lie in
        forged = state.targets[name]
        signers = signers_of(repository, "shoes")
        blob = sign_next(forged, name, signers=signers, delegator=AnyRole(), now=utc_now())
        store.put_new(f"metadata/{forged.signed.version}.{name}.json", blob)
        state.snapshot.signed.meta[f"{name}.json"] = meta_of(forged, blob)
    serve(repository, state)
    with pytest.raises(UntrustedError, match="UnsignedMetadataError"):
        device.update()
    assert device.active().manifest.version == "1.0.0"
    with pytest.raises(UntrustedError):
        repository.refresh()


class AnyRole:
    """The thief's own idea of how many must sign."""

    threshold = 1

    def get_delegated_role(self, role):
        return self


def signers_of(repository, role):
    delegator = repository.state.delegator(role)
    return repository.keys.signers(keys_of(delegator, role))


def serve(repository, state):
    """With the online keys, which the thief has too."""
    root, store, now = state.root.signed, repository.store, utc_now()
    online = {role: repository.keys.signers(keys_of(root, role)) for role in TOP_ROLES}
    snapshot, timestamp = state.snapshot, state.timestamp
    blob = sign_next(snapshot, "snapshot", signers=online["snapshot"], delegator=root, now=now)
    store.put_new(f"metadata/{snapshot.signed.version}.snapshot.json", blob)
    timestamp.signed.snapshot_meta = meta_of(snapshot, blob)
    blob = sign_next(timestamp, "timestamp", signers=online["timestamp"], delegator=root, now=now)
    store.replace(TIMESTAMP, blob, expected=repository.version)


def test_a_family_with_bins_is_published_over_http(repository, tmp_path):
    book = TokenBook(tmp_path / "tokens.json")
    month = timedelta(days=30)
    _, token = book.add((FAMILY,), ("publish", "promote"), lifetime=month)
    _, other = book.add(("shoes",), ("publish", "promote"), lifetime=month)
    guard = RegistryGuard(repository.store, book, repository.trusted_root)
    with serving(create_registry_app(repository.store, Metrics(), guard=guard)) as url:
        away = Repository(HttpStore(f"{url}/registry", other), repository.keys)
        with pytest.raises(UsageError, match=f"of family {FAMILY}"):
            publish(away, candidate_in(tmp_path))
        away = Repository(HttpStore(f"{url}/registry", token), repository.keys)
        publish(away, candidate_in(tmp_path))
        device = device_of(repository, tmp_path / "home", f"{url}/registry")
        assert device.update().version == "1.0.0"


@pytest.mark.parametrize("bins", [0, 3, 512])
def test_bins_are_a_power_of_two(repository, bins):
    with pytest.raises(UsageError, match="bins: choose"):
        repository.add_family("shoes", bins=bins)
    with pytest.raises(UsageError, match="cannot be named"):
        repository.add_family("tiles.bin-0")
    assert repository.families == (FAMILY,)


def test_one_document_is_the_default(tmp_path):
    repository = Repository(FileStore(tmp_path / "registry"), KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family(FAMILY)
    assert bins_of(repository.state.family(FAMILY)) == ()
