"""A commit on every store: two publishers at once, and a crash at any write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Timestamp

from compat.errors import ConflictError, UntrustedError
from compat.files import digest_of
from compat.manifest import Blob, Channel, blob_target, channel_target
from edge.client import RegistryClient
from registry.keys import KeyFolder
from registry.repository import TIMESTAMP, Repository
from registry.storage.http import HttpStore
from registry.storage.port import Store
from registry.storage.s3 import S3Store

FAMILY = "furniture"
WRITES = 6  # blob, channel, root, family role, snapshot, timestamp


class PowerCutError(BaseException):
    """Nothing runs after it, ``except Exception`` included."""


@dataclass
class FaultyStore:
    """``store``, where ``fault`` happens just before or just after the ``at``-th write."""

    store: Store
    at: int
    fault: Callable[[], None]
    after: bool = False
    writes: int = 0

    def put_new(self, name: str, blob: bytes) -> str:
        return self._write(lambda: self.store.put_new(name, blob))

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        return self._write(lambda: self.store.replace(name, blob, expected=expected))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def _write(self, write: Callable[[], str]) -> str:
        now, self.writes = self.writes == self.at, self.writes + 1
        if now and not self.after:
            self.fault()
        version = write()
        if now and self.after:
            self.fault()
        return version


def cut() -> None:
    raise PowerCutError


def release(repository: Repository, version: str) -> None:
    """A blob and the channel that points to it, in one commit."""
    channel = Channel(family=FAMILY, channel="stable", version=version)
    repository.sign_targets(
        FAMILY,
        {blob_target(FAMILY, digest_of(version.encode())): version.encode()},
        moving={channel_target(FAMILY, "stable"): channel.to_bytes()},
    )


@dataclass
class Registry:
    """One registry in ``store``, and the only device, which remembers what it has seen."""

    store: Store
    base: Path

    @property
    def rounds(self) -> tuple[int, ...]:
        """Which writes are met by a fault: all; over HTTP, which is slow, of each kind one."""
        is_far = isinstance(self.store, S3Store | HttpStore)
        return (0, 3, WRITES - 1) if is_far else tuple(range(WRITES))

    def publisher(self, store: Store | None = None) -> Repository:
        return Repository(store or self.store, KeyFolder(self.base / "keys"))

    def served(self) -> str:
        """What a standard client reads: the channel, and the blob of its release whole."""
        for name in self.store.list(""):
            path = self.base / "mirror" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.store.get(name, max_bytes=2**20).blob)
        root = self.publisher().trusted_root
        client = RegistryClient(str(self.base / "mirror"), self.base / "cache", root)
        client.refresh()
        version = client.channel(FAMILY, "stable").version
        blob = Blob(digest=digest_of(version.encode()), size_bytes=len(version))
        assert client.blob(FAMILY, blob, max_bytes=99) == version.encode()
        return version


@pytest.fixture
def registry(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = Registry(store, tmp_path_factory.mktemp("publisher"))
    made.publisher().create()
    made.publisher().add_family(FAMILY)
    release(made.publisher(), "1.0.0")
    return made


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_write_serves_the_old_and_a_repeat_completes(
    registry: Registry, after: bool
) -> None:
    """Each round begins with what the last one left lying about."""
    old = "1.0.0"
    for at in registry.rounds:
        new = f"1.{at + 1}.0"
        with pytest.raises(PowerCutError):
            release(registry.publisher(FaultyStore(registry.store, at, cut, after)), new)
        committed = after and at == WRITES - 1
        assert registry.served() == (new if committed else old)
        release(registry.publisher(), new)
        assert registry.served() == new
        old = new
    spared = FaultyStore(registry.store, WRITES, cut)
    release(registry.publisher(spared), "2.0.0")
    assert (registry.served(), spared.writes) == ("2.0.0", WRITES)


def test_of_two_publishers_one_wins_and_the_other_can_retry(registry: Registry) -> None:
    """The rival commits just before each write of ours: it is never overwritten."""
    for at in registry.rounds:
        ours, rivals = f"1.{at + 1}.0", f"2.{at}.0"
        meddled = FaultyStore(
            registry.store, at, lambda name=rivals: release(registry.publisher(), name)
        )
        with pytest.raises(ConflictError, match="retry"):
            release(registry.publisher(meddled), ours)
        assert registry.served() == rivals
        release(registry.publisher(), ours)
        assert registry.served() == ours
        name = blob_target(FAMILY, digest_of(rivals.encode()))
        assert registry.publisher().read(FAMILY, name, max_bytes=9) == rivals.encode()


def test_leftovers_are_skipped_never_overwritten(registry: Registry) -> None:
    """Somebody's unfinished work lies under the very next numbers."""
    names = {}
    for role in (FAMILY, "snapshot"):
        numbers = [
            int(name.split("/")[1].split(".")[0])
            for name in registry.store.list("metadata/")
            if name.endswith(f".{role}.json")
        ]
        names |= {f"metadata/{max(numbers) + n}.{role}.json": f"{n}".encode() for n in (1, 2)}
    for name, blob in names.items():
        registry.store.put_new(name, blob)
    release(registry.publisher(), "1.1.0")
    assert registry.served() == "1.1.0"
    for name, blob in names.items():
        assert registry.store.get(name, max_bytes=9).blob == blob


def test_what_was_decided_on_an_older_state_is_not_committed(registry: Registry) -> None:
    publisher = registry.publisher()
    seen = publisher.version
    publisher.refresh()
    before = registry.store.list("")
    with pytest.raises(ConflictError):
        publisher.sign_targets(FAMILY, {f"{FAMILY}/blobs/aa": b"x"}, moving={}, expected=seen)
    assert registry.store.list("") == before
    publisher.sign_targets(
        FAMILY, {f"{FAMILY}/blobs/aa": b"x"}, moving={}, expected=publisher.version
    )
    assert publisher.read(FAMILY, f"{FAMILY}/blobs/aa", max_bytes=1) == b"x"


def test_a_timestamp_that_was_tampered_with_is_not_committed_over(registry: Registry) -> None:
    stored = registry.store.get(TIMESTAMP, max_bytes=2**20)
    forged = Metadata[Timestamp].from_bytes(stored.blob)
    forged.signed.version += 1
    registry.store.replace(TIMESTAMP, forged.to_bytes(), expected=stored.version)
    before = registry.store.list("")
    with pytest.raises(UntrustedError, match="does not hold what"):
        release(registry.publisher(), "1.1.0")
    assert registry.store.list("") == before
