"""The updater as a command, against a repository that is changed at will: TUF's client workflow.

Each test: a good path first, then the change or the attack, then what the client must believe now.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulator import Simulator, served
from tuf.api.metadata import Metadata

from edge import conformance


class Client:
    """The command, its folders, and what it trusts."""

    def __init__(self, folder: Path, url: str) -> None:
        self.metadata, self.targets, self.url = folder / "metadata", folder / "targets", url
        self.metadata.mkdir()
        self.targets.mkdir()

    def init(self, root: bytes) -> int:
        file = self.metadata.parent / "initial_root.json"
        file.write_bytes(root)
        return conformance.main(["--metadata-dir", str(self.metadata), "init", str(file)])

    def refresh(self) -> int:
        return conformance.main(
            [
                "--metadata-dir",
                str(self.metadata),
                "--metadata-url",
                f"{self.url}/metadata",
                "refresh",
            ]
        )

    def download(self, *names: str) -> int:
        wanted = [part for name in names for part in ("--target-name", name)]
        return conformance.main(
            [
                *("--metadata-dir", str(self.metadata)),
                *("--metadata-url", f"{self.url}/metadata"),
                *wanted,
                *("--target-dir", str(self.targets)),
                *("--target-base-url", f"{self.url}/targets"),
                "download",
            ]
        )

    def version(self, role: str) -> int | None:
        path = self.metadata / f"{role}.json"
        return Metadata.from_file(str(path)).signed.version if path.exists() else None

    @property
    def trusted(self) -> list[str]:
        return sorted(p.name for p in self.metadata.iterdir() if p.suffix == ".json")

    @property
    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.targets.iterdir()}


@pytest.fixture
def repo():
    return Simulator()


@pytest.fixture
def client(repo, tmp_path):
    with served(repo) as url:
        client = Client(tmp_path, url)
        assert client.init(repo.published["root"][0]) == 0
        assert repo.asked == []
        yield client


@pytest.fixture
def fresh(client, repo):
    assert client.refresh() == 0
    repo.asked.clear()
    return client


def test_a_refresh_asks_in_order_and_keeps_unversioned_names(client, repo):
    assert client.refresh() == 0
    assert repo.asked == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
    ]
    assert client.trusted == ["root.json", "snapshot.json", "targets.json", "timestamp.json"]
    assert [client.version(role) for role in ("root", "timestamp", "snapshot", "targets")] == [
        1
    ] * 4


def test_nothing_new_is_not_fetched_again(fresh, repo):
    assert fresh.refresh() == 0
    assert repo.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_a_download_refreshes_first_and_an_unknown_target_fails(client, repo):
    assert client.download("nothing") == 1
    assert client.version("targets") == 1
    assert client.files == {}


@pytest.mark.parametrize("name", ["file.txt", "a/b/file.txt", "name with space", "%25"])
def test_a_target_is_kept_and_not_fetched_twice(client, repo, name):
    repo.add(name, b"content")
    repo.publish_all("targets")
    if " " in name or "%" in name:
        assert client.download(name) in (0, 1)  # whether a server knows such a path is its affair
        return
    assert client.download(name) == 0
    [(file, content)] = client.files.items()
    assert content == b"content"
    assert "/" not in file
    repo.asked.clear()
    assert client.download(name) == 0
    assert not [path for path in repo.asked if path.startswith("targets/")]


def test_a_changed_target_takes_the_place_of_the_old_one(client, repo):
    for content in (b"one", b"two, longer"):
        repo.add("file.txt", content)
        repo.publish_all("targets")
        assert client.download("file.txt") == 0
        assert list(client.files.values()) == [content]


@pytest.mark.parametrize("spoilt", [b"contenT", b"cont", b"content and more"])
def test_attack_substituted_artifact(client, repo, spoilt):
    """Same length, shorter, longer."""
    repo.add("file.txt", b"content")
    repo.add("other.txt", b"another")
    repo.publish_all("targets")
    assert client.download("file.txt") == 0
    repo.artifacts["other.txt"] = spoilt
    assert client.download("other.txt") == 1
    assert list(client.files.values()) == [b"content"]


def test_it_stops_at_the_first_failing_target(client, repo):
    for name in ("one", "two", "three"):
        repo.add(name, name.encode())
    repo.publish_all("targets")
    repo.artifacts["two"] = b"owt"
    assert client.download("one", "two", "three") == 1
    assert list(client.files.values()) == [b"one"]


def test_attack_symlink_in_the_target_folder(client, repo, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    repo.add("file.txt", b"content")
    repo.publish_all("targets")
    (client.targets / "file.txt").symlink_to(precious)
    assert client.download("file.txt") == 0
    assert precious.read_text() == "mine"
    assert not (client.targets / "file.txt").is_symlink()
    assert client.files == {"file.txt": b"content"}


@pytest.mark.parametrize("name", ["..", "../../escape", "/etc/escape", "."])
def test_attack_path_traversal_in_a_name(client, repo, tmp_path, name):
    repo.add(name, b"content")
    repo.publish_all("targets")
    client.download(name)
    assert {p.name for p in tmp_path.iterdir()} == {"metadata", "targets", "initial_root.json"}
    assert all("/" not in file for file in client.files)


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated", "a b"])
def test_a_role_may_have_an_unusual_name(client, repo, role):
    repo.delegate(role, ["*"])
    repo.publish_all("targets")
    assert client.download("nothing") == 1
    assert len(client.trusted) == 5
    assert all(p.parent == client.metadata for p in client.metadata.glob("*.json"))


def test_attack_unsigned_root(client, repo, tmp_path):
    root = json.loads(repo.published["root"][0])
    root["signatures"][0]["sig"] = "00" * 64
    assert client.init(json.dumps(root).encode()) == 0
    assert client.refresh() == 1
    assert repo.asked == []


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_attack_signed_by_another_key(fresh, repo, role):
    stranger = Simulator()
    repo.signers[role] = stranger.signers[role]
    repo.publish_all("targets")
    assert fresh.refresh() == 1
    assert fresh.version(role) == 1


def test_attack_below_the_threshold(fresh, repo):
    repo.new_key("targets")
    repo.signed("root").roles["targets"].threshold = 2
    repo.publish("root")
    del repo.signers["targets"][1]
    repo.publish_all("targets")
    assert fresh.refresh() == 1
    assert fresh.version("root") == 2
    assert fresh.version("targets") is None or fresh.version("targets") == 1


def test_attack_one_signature_counted_twice(fresh, repo):
    repo.new_key("timestamp")
    repo.signed("root").roles["timestamp"].threshold = 2
    repo.publish("root")
    repo.signers["timestamp"] = repo.signers["timestamp"][:1] * 2
    repo.publish("timestamp")
    assert fresh.refresh() == 1


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_attack_expired_freeze(fresh, repo, role):
    repo.signed(role).expires = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    if role == "root":
        repo.publish("root")
    elif role == "timestamp":
        repo.publish("timestamp")
    else:
        repo.publish_all(*({role} - {"snapshot"}))
    assert fresh.refresh() == 1
    if role == "timestamp":  # kept, so that a rollback is noticed, and not believed
        assert fresh.version("snapshot") == 1


def test_an_expired_root_is_stepped_over_by_the_next(fresh, repo):
    good = repo.signed("root").expires
    repo.signed("root").expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    repo.publish("root")
    repo.signed("root").expires = good
    repo.publish("root")
    assert fresh.refresh() == 0
    assert fresh.version("root") == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_attack_rollback(fresh, repo, role):
    repo.publish_all("targets")
    assert fresh.refresh() == 0
    before = fresh.version(role)
    if role == "timestamp":
        repo.serve_again("timestamp", 0)
    elif role == "snapshot":
        repo.signed("snapshot").version -= 1
        repo.publish("snapshot", bump=False)
        repo.publish("timestamp")
    else:
        repo.signed("targets").version -= 1
        repo.publish("targets", bump=False)
        repo.publish("snapshot", "timestamp")
    assert fresh.refresh() == 1
    assert fresh.version(role) == before


def test_attack_rollback_of_a_timestamp_alone(fresh, repo):
    """The old one names the same snapshot, so nothing but its own version gives it away."""
    repo.publish("timestamp")
    assert fresh.refresh() == 0
    repo.serve_again("timestamp", 0)
    assert fresh.refresh() == 1
    assert fresh.version("timestamp") == 2


def test_attack_rollback_of_a_snapshot_alone(fresh, repo):
    """A new timestamp names an old snapshot that lists the same versions of every role."""
    repo.publish("snapshot", "timestamp")
    assert fresh.refresh() == 0
    repo.signed("timestamp").snapshot_meta.version = 1
    repo.publish("timestamp")
    assert fresh.refresh() == 1
    assert fresh.version("snapshot") == 2


def test_attack_the_whole_registry_of_a_stranger(fresh, repo):
    """A root that the one before did not sign, and everything that it vouches for."""
    stranger = Simulator()
    stranger.publish("root")
    stranger.publish_all("targets")
    first = repo.published["root"][0]
    repo.published = {**stranger.published, "root": [first, *stranger.published["root"][1:]]}
    assert fresh.refresh() == 1
    assert fresh.version("root") == 1


def test_attack_a_timestamp_changed_without_a_new_version(fresh, repo):
    repo.signed("timestamp").snapshot_meta.version = 100
    repo.publish("timestamp", bump=False)
    assert fresh.refresh() == 0
    kept = Metadata.from_file(str(fresh.metadata / "timestamp.json")).signed
    assert kept.snapshot_meta.version == 1


def test_attack_mix_and_match(fresh, repo):
    """A snapshot that names a targets version which the mirror does not serve."""
    repo.signed("snapshot").meta["targets.json"].version = 7
    repo.publish("snapshot", "timestamp")
    assert fresh.refresh() == 1
    assert fresh.version("targets") == 1


def test_attack_fast_forward_and_recovery(fresh, repo):
    repo.signed("timestamp").version = 99_999
    repo.publish("timestamp")
    assert fresh.refresh() == 0
    thief = repo.rotate("timestamp")
    assert thief
    repo.signed("timestamp").version = 2
    repo.publish("root")
    repo.publish("timestamp", bump=False)
    assert fresh.refresh() == 0
    assert fresh.version("timestamp") == 2


def test_a_chain_of_rotated_roots(fresh, repo):
    for _ in range(5):
        old = repo.rotate("root")
        repo.signers["root"] += old  # the old keys vouch for the new ones
        repo.publish("root")
        repo.signers["root"] = repo.signers["root"][:1]
    assert fresh.refresh() == 0
    assert fresh.version("root") == 6


def test_attack_a_root_that_the_old_keys_did_not_sign(fresh, repo):
    repo.rotate("root")
    repo.publish("root")
    assert fresh.refresh() == 1
    assert fresh.version("root") == 1


def test_attack_a_root_that_skips_a_version(fresh, repo):
    repo.signed("root").version = 2
    repo.publish("root")  # version 3, and nobody serves 2
    assert fresh.refresh() == 0
    assert fresh.version("root") == 1


def test_unknown_fields_are_kept_in_what_is_signed(fresh, repo):
    repo.signed("root").unrecognized_fields["more"] = {"a": [1, 2]}
    repo.publish("root")
    assert fresh.refresh() == 0
    assert fresh.version("root") == 2


def test_a_delegated_role_signs_for_its_paths(client, repo):
    repo.delegate("family", ["family/*"])
    repo.add("family/model", b"model", role="family")
    repo.publish_all("family", "targets")
    assert client.download("family/model") == 0
    assert "family.json" in client.trusted


def test_attack_a_role_signs_outside_its_paths(client, repo):
    """Family A's key signing family B."""
    repo.delegate("a", ["a/*"])
    repo.delegate("b", ["b/*"])
    repo.add("b/model", b"forged", role="a")
    repo.publish_all("a", "b", "targets")
    assert client.download("b/model") == 1
    assert client.files == {}


def test_a_terminating_role_ends_the_search(client, repo):
    repo.delegate("first", ["x/*"], terminating=True)
    repo.delegate("second", ["x/*"])
    repo.add("x/y", b"y", role="second")
    repo.publish_all("first", "second", "targets")
    assert client.download("x/y") == 1
    assert "second.json" not in client.trusted


def test_delegations_that_form_a_ring_are_left(client, repo):
    repo.delegate("a", ["*"])
    repo.delegate("b", ["*"], by="a")
    delegations = repo.signed("b")
    assert delegations.delegations is None
    repo.publish_all("a", "b", "targets")
    assert client.download("nothing") == 1
    assert len(client.trusted) == 6


def test_attack_rollback_of_a_delegated_role(client, repo):
    repo.delegate("family", ["*"])
    repo.add("model", b"one", role="family")
    repo.publish_all("family", "targets")
    assert client.download("model") == 0
    repo.signed("family").version -= 1
    repo.publish("family", bump=False)
    repo.publish("snapshot", "timestamp")
    assert client.download("model") == 1
    assert client.version("family") == 2


def test_a_command_that_lacks_a_word_fails_and_writes_nothing(client):
    args = ["--metadata-dir", str(client.metadata), "refresh"]
    before = client.trusted
    assert conformance.main(args) == 1
    assert client.trusted == before
    bad = client.metadata.parent / "missing.json"
    assert conformance.main(["--metadata-dir", str(client.metadata), "init", str(bad)]) == 1


def test_the_process_clock_is_honoured(fresh, repo, monkeypatch):
    """As a fake clock would make it: the same metadata, two months on."""
    from tuf.ngclient._internal import trusted_metadata_set

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=60)

    monkeypatch.setattr(trusted_metadata_set.datetime, "datetime", Later)
    assert fresh.refresh() == 1


def test_a_read_only_folder_is_an_error_and_no_crash(client, repo):
    if os.geteuid() == 0:
        client.metadata.rename(client.metadata.with_name("gone"))
        client.metadata.write_text("a file where the folder was")
    else:
        client.metadata.chmod(0o500)
    assert client.refresh() == 1
