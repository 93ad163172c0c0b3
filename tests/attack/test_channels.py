"""Moving channels through the verbs: one signed commit each, with its entry in the history."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from compat.errors import ConflictError, RefusedError, UntrustedError, UsageError
from compat.manifest import channel_target
from compat.update_report import Met, UpdateReport
from edge.envelope import open_report, public_half, sign_report
from registry import channels, rollout_check
from registry.cli import app
from registry.history import read_history
from registry.publish import publish
from registry.rollout_check import check_rollout

RUN = CliRunner()


def run(small, *words: str, code: int = 0) -> str:
    named = ["--registry", str(small.folder), "--keys", str(small.base / "keys")]
    found = RUN.invoke(app, [*words, *named])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture
def released(small, candidate):
    """1.0.0 for all, 1.1.0 published at 5%."""
    small.publish("1.0.0", seed=1)
    publish(small.repository, candidate("1.1.0", seed=2), percent=5)
    return small


def history(small) -> list[tuple[str, str, float | None]]:
    trusted, cache = small.repository.trusted_root, small.base / "log"
    found = read_history(str(small.folder), trusted, "furniture", cache)
    return [(each.verb, each.version, each.percent) for each in found]


def report(
    small, name: str, works: bool, *, signer=None, at: int = 0, version: str = "1.1.0"
) -> Path:
    signer = signer or CryptoSigner.generate_ed25519()
    found = UpdateReport(
        family="furniture",
        channel="stable",
        met=(Met(version=version, works=works, reason="" if works else "cosine 0.1"),),
        kinspace_version="0.1.0",
        at=datetime(2026, 11, 25, 6, 0, at, tzinfo=UTC),
        device_key=public_half(signer.public_key),
    )
    path = small.base / "reports" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sign_report(found, signer))
    return path


def test_a_rollout_from_5_percent_to_all_by_the_verbs(released):
    assert "1.1.0 for 25% of the devices" in run(
        released, "promote", "furniture", "1.1.0", "--percent", "25", "--system", "Linux"
    )
    assert "paused" in run(released, "pause", "furniture", "--reason", "we look at it")
    run(released, "promote", "furniture", "1.1.0", code=RefusedError.exit_code)
    run(released, "resume", "furniture")
    found = json.loads(run(released, "promote", "furniture", "1.1.0", "--json"))
    assert (found["version"], found["rollouts"][0]["percent"]) == ("1.0.0", 100)  # Linux only
    assert run(released, "demote", "furniture").strip() == "stable of furniture: 1.0.0"
    assert history(released) == [
        ("publish", "1.0.0", None),
        ("publish", "1.1.0", 5),
        ("promote", "1.1.0", 25),
        ("pause", "1.1.0", 25),
        ("resume", "1.1.0", 25),
        ("promote", "1.1.0", 100),
        ("demote", "1.0.0", None),
    ]
    root = str(released.base / "keys" / "root.json")
    words = ["log", "furniture", "--registry", str(released.folder), "--root", root]
    shown = RUN.invoke(app, [*words, "--cache", str(released.base / "log")])
    assert shown.exit_code == 0, shown.output
    assert "pause    1.1.0 25%: we look at it" in shown.output


def test_the_same_move_again_signs_nothing(released):
    before = {path: path.read_bytes() for path in released.files()}
    run(released, "promote", "furniture", "1.1.0", "--percent", "5")
    assert {path: path.read_bytes() for path in released.files()} == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("promote", "furniture", "7.0.0"), UsageError.exit_code),
        (("promote", "furniture", "1.0.0"), RefusedError.exit_code),
        (("promote", "furniture", "1.1.0", "--percent", "1"), RefusedError.exit_code),
        (("promote", "furniture", "1.1.0", "--min-client", "new"), UsageError.exit_code),
        (("promote", "furniture", "1.1.0", "--channel", "a/b"), UsageError.exit_code),
        (("promote", "shoes", "1.1.0"), UsageError.exit_code),
        (("pause", "furniture", "--channel", "canary"), UsageError.exit_code),
        (("demote", "furniture", "--to", "0.9.0"), UsageError.exit_code),
        (("demote", "furniture", "--to", "1.1.0"), UsageError.exit_code),
    ],
)
def test_moves_that_are_refused_change_nothing(released, words, code):
    before = {path: path.read_bytes() for path in released.files()}
    assert "error: " in run(released, *words, code=code)
    assert {path: path.read_bytes() for path in released.files()} == before


def test_a_new_channel_begins_where_stable_is_and_leaves_stable_alone(released, candidate):
    canary = channels.promote(
        released.repository, "furniture", "1.1.0", channel="canary", percent=50
    )
    assert (canary.version, canary.rollouts[0].percent) == ("1.0.0", 50)
    stable = channels.read_channel(released.repository, "furniture", "stable")
    assert stable.rollouts[0].percent == 5
    old = channels.promote(released.repository, "furniture", "1.0.0", channel="slow")
    assert (old.version, old.rollouts) == ("1.0.0", ())
    with pytest.raises(UsageError, match="begins with all of its devices"):
        publish(released.repository, candidate("0.9.0"), channel="museum", percent=5)


def test_two_movers_at_once(released, monkeypatch):
    """One decides on what the other has changed meanwhile: nothing of it is served."""
    decide = channels.paused

    def meddled(*args, **kwargs):
        monkeypatch.setattr(channels, "paused", decide)
        channels.promote(released.repository, "furniture", "1.1.0", percent=50)
        return decide(*args, **kwargs)

    monkeypatch.setattr(channels, "paused", meddled)
    with pytest.raises(ConflictError):
        channels.pause(released.repository, "furniture", "stable")
    found = channels.read_channel(released.repository, "furniture", "stable")
    assert (found.rollouts[0].percent, found.rollouts[0].paused) == (50, False)
    assert channels.pause(released.repository, "furniture", "stable").rollouts[0].paused


def test_too_many_failures_take_a_rollout_back(released):
    for i in range(20):
        report(released, f"good-{i}", works=True)
    words = ("rollout", "check", "furniture", "--reports", str(released.base / "reports"))
    assert "fails on 0 of 20 devices" in run(released, *words)
    for i in range(10):
        report(released, f"bad-{i}", works=False)
    (released.base / "reports" / "noise").write_bytes(b"{}")
    shown = run(released, *words, code=RefusedError.exit_code)
    assert "fails on 10 of 30 devices" in shown
    assert "1 files do not count" in shown
    assert "taken back: stable is at 1.0.0" in shown
    assert history(released)[-1] == ("halt", "1.1.0", None)
    assert "nothing is being rolled out" in run(released, *words, code=UsageError.exit_code)


def test_a_device_counts_once_by_its_newest_report_and_only_for_this_release(released):
    one, folder = CryptoSigner.generate_ed25519(), released.base / "reports"
    for i in range(30):
        report(released, f"again-{i}", works=False, signer=one, at=i)
        report(released, f"other-{i}", works=False, version="1.0.0")
    report(released, "mended", works=True, signer=one, at=59)
    found = check_rollout(released.repository, "furniture", "stable", folder)
    assert (found.failures.failed, found.failures.devices, found.halted) == (0, 1, False)


def test_attack_failures_by_keys_that_nobody_listed(released):
    ours = CryptoSigner.generate_ed25519()
    report(released, "ours", works=True, signer=ours)
    for i in range(30):
        report(released, f"forged-{i}", works=False)
    folder, trusted = released.base / "reports", {ours.public_key.keyid}
    found = check_rollout(released.repository, "furniture", "stable", folder, trusted=trusted)
    assert (found.failures.devices, found.refused, found.halted) == (1, 30, False)
    assert check_rollout(released.repository, "furniture", "stable", folder).halted  # any key


def test_attack_a_report_is_changed_or_is_an_attestation(released, attested_as):
    from edge.envelope import sign_attestation

    path = report(released, "one", works=False)
    assert open_report(path.read_bytes(), "one").report.met[0].works is False
    signer = CryptoSigner.generate_ed25519()
    other = sign_attestation(attested_as(public_half(signer.public_key)), signer)
    for blob in (other, path.read_bytes().replace(b"sig", b"gis"), b"[]"):
        with pytest.raises(UntrustedError):
            open_report(blob, "x")


def test_attack_a_history_that_the_familys_key_rewrote(released):
    """The past is signed anew, whole and well chained: who has read it before notices."""
    assert len(history(released)) == 2
    repository = released.repository
    pointer = channels.read_channel(repository, "furniture", "stable")
    forged = channels.pointer_of(repository, pointer, "promote", "1.1.0")
    [blob] = forged.entry.values()
    first = json.loads(blob) | {"number": 1, "previous": None}
    name = "furniture/log/000001.json"
    with pytest.raises(RefusedError, match="published with other bytes"):
        repository.sign_targets("furniture", {name: json.dumps(first).encode()}, moving={})
    repository.sign_targets("furniture", {}, moving={name: json.dumps(first).encode()})
    with pytest.raises(UntrustedError, match="rewritten"):
        history(released)
    with pytest.raises(UntrustedError, match="is no chain"):
        channels.promote(repository, "furniture", "1.1.0", percent=50)
    assert channels.read_channel(repository, "furniture", "stable") == pointer
    assert channel_target("furniture", "stable") == "furniture/channels/stable.json"


def test_a_check_of_what_has_moved_since_takes_nothing_back(released, candidate, monkeypatch):
    """1.1.0 was settled and 1.2.0 begun while the reports on 1.1.0 were read."""
    for i in range(20):
        report(released, f"bad-{i}", works=False)
    judged = rollout_check.judge

    def meddled(*args):
        channels.promote(released.repository, "furniture", "1.1.0")
        publish(released.repository, candidate("1.2.0", seed=3), percent=5)
        return judged(*args)

    monkeypatch.setattr(rollout_check, "judge", meddled)
    folder = released.base / "reports"
    with pytest.raises(ConflictError):
        check_rollout(released.repository, "furniture", "stable", folder)
    found = channels.read_channel(released.repository, "furniture", "stable")
    assert (found.version, found.rollouts[0].version) == ("1.1.0", "1.2.0")
