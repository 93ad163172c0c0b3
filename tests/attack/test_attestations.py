"""Attestations that must not count, and a report that must not change when none does."""

import base64
import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from compat.errors import RefusedError, UntrustedError, UsageError
from compat.manifest import Model
from compat.report import Report
from compat.wire import canonical_json
from edge.envelope import public_half, sign_attestation
from registry import attestations as module
from registry.attestations import attach_attestations
from registry.cli import app
from registry.workspace import Workspace

RUN = CliRunner()
DEVICE, TWIN = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()


@pytest.fixture
def workspace(tmp_path: Path, candidate) -> Workspace:
    """A report, and the candidate that it is of."""
    found, workspace = candidate("1.0.0"), Workspace(tmp_path / "ws")
    workspace.report_json.parent.mkdir(parents=True)
    workspace.report_json.write_bytes(found.report)
    workspace.report_html.write_bytes(b"<html>")
    for member in found.members:
        folder = workspace.artifacts / member.name
        folder.mkdir(parents=True)
        model = Model.model_validate(member.model_dump(exclude={"golden"}))
        (folder / "model.json").write_bytes(canonical_json(model.model_dump(mode="json")))
    return workspace


@pytest.fixture
def attest(workspace, tmp_path, attested_as):
    """Writes ``folder/name``: a device's signed numbers of the report's first artifact."""
    report = Report.from_bytes(workspace.report_json.read_bytes())
    first = report.artifacts[0]

    def make(name: str, signer: CryptoSigner = DEVICE, **over: object) -> Path:
        fields = {
            "artifact": first.digest,
            "member": first.member,
            "runtime": first.runtime,
            "precision": first.precision,
            "golden": {"cosine_min": 0.9995, "cosine_mean": 0.9999},
            **over,
        }
        path = tmp_path / "folder" / name
        path.parent.mkdir(exist_ok=True)
        found = attested_as(public_half(signer.public_key), **fields)
        path.write_bytes(sign_attestation(found, signer))
        return path

    return make


def attached(workspace: Workspace):
    return Report.from_bytes(workspace.report_json.read_bytes()).attestations


def flip(path: Path) -> None:
    envelope = json.loads(path.read_bytes())
    payload = bytearray(base64.b64decode(envelope["payload"]))
    payload[payload.index(b"0.9995") + 5] ^= 1  # 0.9995 -> 0.9994
    envelope["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(envelope))


def steal_signature(path: Path) -> None:
    envelope = json.loads(path.read_bytes())
    envelope["signatures"][0]["sig"] = base64.b64encode(b"0" * 64).decode()
    path.write_text(json.dumps(envelope))


ATTACKS = {
    "a flipped byte": (flip, "the signature is not of these bytes"),
    "another signature": (steal_signature, "the signature is not of these bytes"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:500]), "no signed attestation"),
    "too long": (lambda path: path.write_bytes(path.read_bytes() + b" " * 2**16), "65536 bytes"),
    "empty": (lambda path: path.write_bytes(b""), "no signed attestation"),
}


@pytest.mark.parametrize(("attack", "words"), ATTACKS.values(), ids=ATTACKS.keys())
def test_attack_alone_nothing_changes_beside_a_good_one_it_is_named(
    workspace, attest, attack, words
):
    spoilt = attest("spoilt.json")
    attack(spoilt)
    before = workspace.report_json.read_bytes(), workspace.report_html.read_bytes()
    with pytest.raises(UntrustedError, match=words):
        attach_attestations(workspace, spoilt.parent)
    assert (workspace.report_json.read_bytes(), workspace.report_html.read_bytes()) == before

    attest("whole.json", golden={"cosine_min": 0.9999, "cosine_mean": 1.0})
    section = attach_attestations(workspace, spoilt.parent)
    assert attached(workspace) == section
    [refused] = section.refused
    assert (refused.source, words in refused.reason) == ("spoilt.json", True)
    [row] = section.classes
    assert (row.devices, row.attestations, row.cosine_worst) == (1, 1, 0.9999)


@pytest.mark.parametrize(
    "over",
    [{"artifact": "c" * 64}, {"family": "shoes"}, {"member": "watch"}, {"precision": "fp16"}],
)
def test_attack_numbers_of_another_artifact(workspace, attest, over):
    path, before = attest("other.json", **over), workspace.report_json.read_bytes()
    with pytest.raises(UntrustedError, match=r"is not in this report|the device says"):
        attach_attestations(workspace, path.parent)
    assert workspace.report_json.read_bytes() == before


def test_only_listed_keys_count_when_keys_are_listed(workspace, attest):
    attest("ours.json", DEVICE)
    folder = attest("theirs.json", TWIN).parent
    assert attach_attestations(workspace, folder).classes[0].devices == 2
    section = attach_attestations(workspace, folder, trusted={DEVICE.public_key.keyid})
    assert (section.trust, section.classes[0].devices) == ("listed keys", 1)
    assert [each.source for each in section.refused] == ["theirs.json"]
    before = workspace.report_json.read_bytes()
    with pytest.raises(UntrustedError, match="is not among the 1 trusted"):
        attach_attestations(workspace, folder, trusted={"0" * 64})
    assert workspace.report_json.read_bytes() == before


def test_attaching_twice_is_attaching_once(workspace, attest):
    folder = attest("one.json").parent
    attach_attestations(workspace, folder)
    first = workspace.report_json.read_bytes(), workspace.report_html.read_bytes()
    attach_attestations(workspace, folder)
    assert (workspace.report_json.read_bytes(), workspace.report_html.read_bytes()) == first


def test_artifacts_that_were_exported_again_are_no_longer_those_of_the_report(workspace, attest):
    folder, before = attest("one.json").parent, workspace.report_json.read_bytes()
    path = workspace.artifacts / "phone" / "model.json"
    path.write_text(
        path.read_text().replace(json.loads(path.read_text())["artifacts"][0]["digest"], "d" * 64)
    )
    with pytest.raises(UsageError, match=r"exported again since the report was made.*phone"):
        attach_attestations(workspace, folder)
    assert workspace.report_json.read_bytes() == before


def test_the_folder_is_bounded(workspace, attest, tmp_path, monkeypatch):
    folder = attest("one.json").parent
    attest("two.json")
    monkeypatch.setattr(module, "MAX_ATTESTATIONS", 1)
    with pytest.raises(UsageError, match="holds 2 files, more than 1"):
        attach_attestations(workspace, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no attestation"):
        attach_attestations(workspace, tmp_path / "empty")
    with pytest.raises(UsageError, match="cannot read"):
        attach_attestations(workspace, tmp_path / "nowhere")


def test_the_verb_exits_5_on_a_failing_device_and_names_it(workspace, attest):
    attest("good.json", TWIN)
    path = attest("bad.json", golden={"cosine_min": 0.42, "cosine_mean": 0.9})
    words = ["report", "attestations", str(path.parent), "--workspace", str(workspace.root)]
    found = RUN.invoke(app, words)
    assert found.exit_code == RefusedError.exit_code
    assert f"FAILS: device {DEVICE.public_key.keyid[:12]}" in found.stdout
    assert "cosine 0.4200" in found.stdout
    assert attached(workspace).failures == 1  # the report shows it
    path.unlink()
    found = RUN.invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["classes"][0]["provenance"] == "measured on pixel-8"
