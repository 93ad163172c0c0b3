"""Two people, two machines, one root: drafts travel, private keys do not."""

from copy import deepcopy
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from compat.errors import UntrustedError, UsageError
from edge.client import RegistryClient
from registry.ceremony import (
    combined,
    founding_draft,
    missing_signatures,
    read_draft,
    rotation_draft,
    signed_draft,
)
from registry.keys import PASSPHRASE_ENV, KeyFolder
from registry.repository import Repository, utc_now


@pytest.fixture
def holders(tmp_path: Path, monkeypatch) -> dict[str, KeyFolder]:
    """Three people, each with a folder on a machine of their own, each with a passphrase."""
    monkeypatch.setenv(PASSPHRASE_ENV, "correct horse")
    folders = {name: KeyFolder(tmp_path / name) for name in ("ann", "bob", "cem")}
    for name, folder in folders.items():
        folder.create_encrypted(name)
    return folders


def key_of(holders: dict[str, KeyFolder], name: str):
    return holders[name].create(name)


def signed_by(draft: Metadata, holders: dict[str, KeyFolder], *names: str) -> list[Metadata]:
    """What each of them sends back, as bytes went there and came back."""
    blob = draft.to_bytes()
    return [
        signed_draft(read_draft(blob), holders[name].signers([key_of(holders, name)]))
        for name in names
    ]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "registry", KeyFolder(tmp_path / "office"))


@pytest.fixture
def founding(repository: Repository, holders) -> Metadata:
    others = {role: repository.keys.create(role) for role in ("targets", "snapshot", "timestamp")}
    keys = [key_of(holders, name) for name in holders]
    return founding_draft(keys, others, threshold=2, now=utc_now())


@pytest.fixture
def founded(repository: Repository, founding, holders) -> Repository:
    repository.install_root(combined(signed_by(founding, holders, "ann", "bob")))
    return repository


def refreshed(repository: Repository, cache: Path, root: bytes) -> None:
    RegistryClient(str(repository.store.folder), cache, root).refresh()


def served(repository: Repository) -> dict[Path, bytes]:
    folders = (repository.store.folder, repository.keys.folder)
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_two_of_three_found_a_registry(founded, tmp_path):
    refreshed(founded, tmp_path / "cache", founded.trusted_root)
    founded.add_family("furniture")
    assert founded.families == ("furniture",)
    assert founded.state.root.signed.roles["root"].threshold == 2
    private = [path.name for path in founded.keys.folder.glob("*.pem")]
    assert not {"root.pem", "ann.pem", "bob.pem", "cem.pem"} & set(private)


@pytest.mark.parametrize("names", [(), ("ann",), ("ann", "ann")])
def test_one_of_three_founds_nothing(repository, founding, holders, names):
    """Nor does one who signs twice."""
    before = served(repository)
    draft = combined([founding, *signed_by(founding, holders, *names)])
    assert missing_signatures(draft, None) == 2 - len(set(names))
    with pytest.raises(UsageError, match="misses"):
        repository.install_root(draft)
    assert served(repository) == before


def test_a_draft_that_was_changed_on_its_way_is_not_combined(founding, holders):
    other = deepcopy(founding)
    other.signed.roles["root"].threshold = 1
    with pytest.raises(UntrustedError, match="differ"):
        combined([*signed_by(founding, holders, "ann"), *signed_by(other, holders, "bob")])


def test_a_private_key_of_a_person_is_never_in_the_clear(holders, tmp_path, monkeypatch):
    assert b"ENCRYPTED" in (holders["ann"].folder / "ann.pem").read_bytes()
    monkeypatch.delenv(PASSPHRASE_ENV)
    with pytest.raises(UsageError, match=PASSPHRASE_ENV):
        KeyFolder(tmp_path / "dan").create_encrypted("dan")
    assert not (tmp_path / "dan").exists()
    with pytest.raises(UsageError, match=PASSPHRASE_ENV):
        key_of(holders, "ann")


def test_one_of_three_is_lost_and_replaced(founded, holders, tmp_path, monkeypatch):
    """Device first, so that it has to walk from the old root to the new one."""
    first = founded.trusted_root
    refreshed(founded, tmp_path / "cache", first)
    holders["dan"] = KeyFolder(tmp_path / "dan")
    dan = holders["dan"].create_encrypted("dan")
    trusted = founded.state.root.signed
    lost = key_of(holders, "cem").keyid
    draft = rotation_draft(trusted, "root", add=[dan], remove=[lost], now=utc_now())
    before = served(founded)
    alone = combined(signed_by(draft, holders, "ann", "dan"))  # enough for the new, not the old
    assert missing_signatures(alone, trusted) == 1
    with pytest.raises(UsageError, match="misses 1"):
        founded.install_root(alone)
    assert served(founded) == before
    founded.install_root(combined(signed_by(draft, holders, "ann", "bob")))
    refreshed(founded, tmp_path / "cache", first)
    refreshed(founded, tmp_path / "new", founded.trusted_root)
    assert lost not in founded.state.root.signed.roles["root"].keyids
    again = rotation_draft(founded.state.root.signed, "root", add=[], remove=[], now=utc_now())
    founded.install_root(combined(signed_by(again, holders, "bob", "dan")))
    refreshed(founded, tmp_path / "slept", first)  # walks 1 -> 2 -> 3


def test_a_draft_that_does_not_follow_is_refused(founded, holders):
    draft = rotation_draft(founded.state.root.signed, "root", add=[], remove=[], now=utc_now())
    draft.signed.version += 1
    before = served(founded)
    with pytest.raises(UsageError, match="does not follow"):
        founded.install_root(combined(signed_by(draft, holders, "ann", "bob")))
    assert served(founded) == before


def test_a_second_root_of_a_version_is_refused(founded, founding, holders):
    """Even one that two of three signed: a device may have seen the first."""
    other = deepcopy(founding)
    other.signed.roles["root"].threshold = 1
    before = served(founded)
    with pytest.raises(UntrustedError, match="another root 1"):
        founded.install_root(combined(signed_by(other, holders, "ann", "bob")))
    assert served(founded) == before


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_nobody_can_meet(founded, threshold):
    trusted = founded.state.root.signed
    with pytest.raises(UsageError, match="keys cannot sign"):
        rotation_draft(trusted, "root", add=[], remove=[], threshold=threshold or -1, now=utc_now())


def test_a_stranger_to_the_role_cannot_be_removed(founded):
    with pytest.raises(UsageError, match="does not sign for root"):
        rotation_draft(founded.state.root.signed, "root", add=[], remove=["0" * 64], now=utc_now())


@pytest.mark.parametrize("blob", [b"", b"{}", b"\xff", b"null"])
def test_what_is_no_draft(blob):
    with pytest.raises(UsageError, match="no draft"):
        read_draft(blob)


def test_a_document_of_another_role_is_no_draft(founded):
    with pytest.raises(UsageError, match="but a timestamp"):
        read_draft((founded.store.folder / "metadata" / "timestamp.json").read_bytes())
