"""``kinspace keys``: the whole ceremony by its commands, each person in a folder of their own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from registry.cli import app
from registry.keys import PASSPHRASE_ENV


def run(*words: object, exits: int = 0):
    """Parsed --json of a command that exits as it should; its error text when not 0."""
    result = CliRunner().invoke(app, ["keys", *map(str, words), "--json"])
    assert result.exit_code == exits, result.output
    return json.loads(result.stdout) if exits == 0 else result.stderr


@pytest.fixture
def people(tmp_path: Path, monkeypatch) -> dict[str, Path]:
    monkeypatch.setenv(PASSPHRASE_ENV, "correct horse")
    return {
        name: Path(run("new", name, "--keys", tmp_path / name)["public"])
        for name in ("ann", "bob", "cem")
    }


def signed_copies(draft: Path, people: dict[str, Path], *names: str) -> list[Path]:
    """Each signs the copy that was sent to them."""
    copies = []
    for name in names:
        copy = people[name].with_name("draft.json")
        copy.write_bytes(draft.read_bytes())
        run("sign", copy, "--keys", copy.parent)
        copies.append(copy)
    return copies


@pytest.fixture
def registry(tmp_path: Path, people) -> Path:
    """Founded by two of three; the key of targets is Cem's too."""
    registry, draft = tmp_path / "registry", tmp_path / "draft.json"
    keys = [word for public in people.values() for word in ("--root-key", public)]
    made = run("found", registry, *keys, "--draft", draft)
    assert made == {"version": 1, "missing": 2, "draft": str(draft)}
    copies = signed_copies(draft, people, "ann", "bob")
    refusal = run("assemble", registry, copies[0], exits=2)
    assert "misses 1 signatures" in refusal
    assert not registry.joinpath("metadata").exists()
    assert run("assemble", registry, *copies)["version"] == 1
    return registry


def test_the_ceremony(registry, tmp_path):
    run("init", registry, "--family", "chairs")
    status = run("status", registry)
    assert set(status) == {"root", "targets", "chairs", "snapshot", "timestamp"}
    assert status["root"]["threshold"] == 2
    assert list(status["root"]["keys"].values()) == [False] * 3
    assert list(status["timestamp"]["keys"].values()) == [True]
    private = {path.name for path in (tmp_path / "registry-keys").glob("*.pem")}
    assert private == {"targets.pem", "snapshot.pem", "timestamp.pem", "chairs.pem"}
    plain = CliRunner().invoke(app, ["keys", "status", str(registry)])
    assert "root: 2 must sign" in plain.stdout
    assert "elsewhere" in plain.stdout


def test_an_online_key_is_replaced_by_those_who_hold_root(registry, people, tmp_path):
    before = run("status", registry)["timestamp"]["keys"]
    refusal = run("rotate", registry, "timestamp", exits=2)
    assert "--draft" in refusal
    draft = tmp_path / "next.json"
    made = run("rotate", registry, "timestamp", "--draft", draft)
    assert (made["version"], made["missing"], made["installed"]) == (2, 2, False)
    assert run("status", registry)["timestamp"]["keys"] == before
    run("assemble", registry, *signed_copies(draft, people, "bob", "cem"))
    assert not set(run("status", registry)["timestamp"]["keys"]) & set(before)


def test_one_person_replaces_keys_at_once(tmp_path):
    """The quick form: all keys in one folder, threshold 1."""
    registry = tmp_path / "registry"
    run("init", registry, "--family", "chairs")
    before = run("status", registry)
    for role in ("snapshot", "targets", "chairs"):
        assert run("rotate", registry, role)["installed"] is True
    after = run("status", registry)
    for role, row in before.items():
        changed = not set(row["keys"]) & set(after[role]["keys"])
        assert changed == (role in ("snapshot", "targets", "chairs")), role


def test_one_person_hands_root_over_to_three(tmp_path, people):
    """From the quick form to the real one: the last thing that the lone key signs."""
    registry, draft = tmp_path / "registry", tmp_path / "draft.json"
    run("init", registry)
    (alone,) = run("status", registry)["root"]["keys"]
    keys = [word for public in people.values() for word in ("--add", public)]
    words = ("rotate", registry, "root", *keys, "--remove", alone, "--threshold", 2)
    assert run(*words, "--draft", draft)["missing"] == 2
    run("assemble", registry, *signed_copies(draft, people, "ann", "cem"))
    status = run("status", registry)["root"]
    assert status["threshold"] == 2
    assert alone not in status["keys"]


def test_a_key_behind_a_uri_takes_the_place_of_a_file(tmp_path, people):
    """``file2:`` is securesystemslib's own scheme: as any other, KMS and HSM included."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from securesystemslib.signer import CryptoSigner

    from registry.keys import public_file

    registry, private = tmp_path / "registry", Ed25519PrivateKey.generate()
    run("init", registry)
    elsewhere = tmp_path / "elsewhere.pem"
    elsewhere.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = tmp_path / "vault.pub.json"
    public.write_bytes(public_file(CryptoSigner(private).public_key))
    uri = f"file2:{elsewhere}"
    run("rotate", registry, "timestamp", "--add", public, "--uri", uri)
    run("refresh", registry)
    elsewhere.unlink()
    assert uri in run("refresh", registry, exits=2)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x"])
def test_a_name_that_leads_elsewhere_is_no_key(tmp_path, name):
    result = CliRunner().invoke(app, ["keys", "new", "--keys", str(tmp_path), "--", name])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keyid": 1}', "null"])
def test_a_file_that_is_no_public_key(tmp_path, text):
    public = tmp_path / "ann.pub.json"
    public.write_text(text)
    words = ("--root-key", public, "--draft", tmp_path / "draft.json")
    assert "no public key" in run("found", tmp_path / "registry", *words, exits=2)
    assert not (tmp_path / "draft.json").exists()


def test_a_stranger_cannot_sign(registry, people, tmp_path):
    draft = tmp_path / "draft.json"
    before = draft.read_bytes()
    run("new", "eve", "--keys", tmp_path / "eve")
    assert "holds no key" in run("sign", draft, "--keys", tmp_path / "eve", exits=2)
    assert draft.read_bytes() == before
