"""A registry on the local filesystem: signed static files that any web server or bucket serves.

``<registry>/metadata`` is what TUF signs, ``<registry>/targets`` what is signed for: a standard TUF
client reads both. A change is one commit. Everything is signed in memory first, then written in an
order in which nothing that is served names what is not there yet: targets, family role, snapshot,
and the timestamp, whose rename is the commit. Before it the old state is served; a repeat starts
again from what is committed, never from what a crash left lying about. What is read back is
verified before it is signed anew: a publisher does not lend its keys to whoever can write to the
bucket. Why: docs/adr/0003.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, TargetFile, Targets, Timestamp

from compat.errors import RefusedError, UntrustedError, UsageError
from compat.files import read_bounded, write_atomic
from edge.lock import exclusive
from registry.ceremony import missing_signatures
from registry.keys import KeyFolder
from registry.roles import (
    HASHES,
    TOP_ROLES,
    SignedState,
    first_root,
    first_state,
    has_threshold,
    keys_of,
    meta_of,
    sign_next,
    stored_name,
    verified,
    verified_root,
)

MAX_METADATA_BYTES = 5_000_000  # what the device accepts as well (tuf.ngclient targets_max_length)
TARGET_PART = re.compile(r"[a-z0-9][a-z0-9._-]*")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """The publisher's side of one registry.

    Every method raises UsageError when a file or key cannot be read or written, or another
    publisher is at work; UntrustedError when what the registry holds is not what was signed.
    """

    def __init__(
        self, folder: Path, keys: KeyFolder, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.folder = folder
        self.keys = keys
        self._now = now

    def create(self) -> None:
        """Make the registry, with new keys where there are none; safe to repeat."""
        if self.keys.folder.resolve().is_relative_to(self.folder.resolve()):
            raise UsageError(
                f"{self.keys.folder} is inside {self.folder}, which everybody reads: "
                "keep the keys elsewhere"
            )
        with self._exclusive():
            if self.keys.root is None:
                root = first_root({role: self.keys.create(role) for role in TOP_ROLES})
                self.keys.write_root(1, self._sign(root, "root", root.signed))
            if (self.folder / "metadata" / "timestamp.json").exists():
                self._load()  # raises when it was signed by other keys
            else:
                self._commit(first_state(self._root()), ["targets"], {})

    def add_family(self, family: str) -> None:
        """Let a key of its own sign for ``family``, and for nothing else; safe to repeat."""
        if family in TOP_ROLES or not TARGET_PART.fullmatch(family):
            raise UsageError(f"a family cannot be named {family!r}: choose another name")
        with self._exclusive():
            state = self._load()
            if family not in state.families:
                state.delegate(family, self.keys.create(family))
                self._commit(state, ["targets", family], {})

    def install_root(self, draft: Metadata[Root]) -> None:
        """Trust and serve a root that its holders have signed; safe to repeat after a crash.

        Snapshot and timestamp are made anew from what the offline keys signed: whatever a thief of
        the online keys wrote, versions without end included, is left behind (TUF 6.1).

        Raises:
            UsageError: signatures are missing, or a key that must sign now is not at hand.
            UntrustedError: another root of this version is trusted already.
        """
        with self._exclusive():
            before = self._root() if self.keys.root is not None else None
            if missing := missing_signatures(draft, before.signed if before else None):
                raise UsageError(f"root {draft.signed.version} misses {missing} signatures")
            served = (self.folder / "metadata").exists()
            state = self._salvaged(draft) if served else first_state(draft)
            signed = self._signed(state, [*_unheld(state), "snapshot"])
            self.keys.write_root(draft.signed.version, draft.to_bytes())
            self._write(draft, {}, signed)

    def rotate_family(self, family: str) -> None:
        """Let a new key sign for ``family``; what the old one signs is refused from now on."""
        with self._exclusive():
            state = self._load()
            state.family(family)
            if not self._can_sign(state, "targets"):
                raise UsageError("only the key of targets lets another key sign: bring it")
            state.redelegate(family, self.keys.create_next(family))
            self._commit(state, ["targets", family], {})

    @property
    def state(self) -> SignedState:
        """What is committed, verified; a copy."""
        with self._border():
            return self._load()

    @property
    def root(self) -> Metadata[Root]:
        """The root that this publisher trusts."""
        with self._border():
            return self._root()

    @property
    def trusted_root(self) -> bytes:
        """What a device is given at init: root metadata, to be carried by a channel of trust."""
        with self._border():
            return self._root().to_bytes()

    @property
    def families(self) -> tuple[str, ...]:
        with self._border():
            return self._load().families

    def sign_targets(
        self, family: str, blobs: Mapping[str, bytes], *, moving: Mapping[str, bytes]
    ) -> None:
        """Publish targets (name -> bytes) of one family in one commit; only ``moving`` ones change.

        Raises:
            RefusedError: one of ``blobs`` is published with other bytes. Remedy: a new version.
        """
        for name in (*blobs, *moving):
            parts = name.split("/")
            if len(parts) != 3 or parts[0] != family or not all(map(TARGET_PART.fullmatch, parts)):
                raise UsageError(f"{name!r} is no name of a target of family {family}")
        with self._exclusive():
            state = self._load()
            listed = state.family(family).targets
            for name, blob in {**blobs, **moving}.items():
                target = TargetFile.from_data(name, blob, HASHES)
                if name not in moving and listed.get(name, target) != target:
                    raise RefusedError(
                        f"{name} is published with other bytes: choose a new version"
                    )
                listed[name] = target
            self._commit(state, [family], {**blobs, **moving})

    def read(self, family: str, name: str, *, max_bytes: int) -> bytes | None:
        """The published bytes of ``name``, verified; None when the family does not list it."""
        with self._border():
            target = self._load().family(family).targets.get(name)
            if target is None:
                return None
            blob = read_bounded(self.folder / "targets" / stored_name(target), max_bytes)
            target.verify_length_and_hashes(blob)
            return blob

    def refresh(self) -> dict[str, datetime]:
        """Sign the timestamp anew, and whatever has less than half of its life left.

        Roles whose keys are not at hand stay as they are.

        Returns:
            When each role expires.
        """
        with self._exclusive():
            state = self._load()
            stale = [role for role in state.stale(self._now()) if self._can_sign(state, role)]
            if "root" in stale:
                blob = self._sign(state.root, "root", state.root.signed)
                self.keys.write_root(state.root.signed.version, blob)
            self._commit(state, [role for role in stale if role not in ("root", "timestamp")], {})
            return state.expires()

    def _root(self) -> Metadata[Root]:
        """The root that this publisher trusts: the one in its key folder, not the served one."""
        blob = self.keys.root
        if blob is None:
            raise UsageError(f"{self.keys.folder} holds no keys of a registry: kinspace keys init")
        return verified_root(blob)

    def _load(self) -> SignedState:
        """The committed state, each document verified against who delegates to it."""
        root = self._root()
        timestamp = self._document("timestamp", Timestamp, root.signed, None)
        snapshot = self._document("snapshot", Snapshot, root.signed, timestamp.signed.snapshot_meta)
        meta = snapshot.signed.meta
        top = self._document("targets", Targets, root.signed, meta.get("targets.json"))
        families = (top.signed.delegations.roles or {}) if top.signed.delegations else {}
        targets = {
            family: self._document(family, Targets, top.signed, meta.get(f"{family}.json"))
            for family in families
        }
        return SignedState(root, {"targets": top, **targets}, snapshot, timestamp)

    def _salvaged(self, root: Metadata[Root]) -> SignedState:
        """What the offline keys of ``root``, or of one before it, signed last."""
        past = sorted(self.keys.roots.items(), reverse=True)
        trusted = [root.signed, *(verified_root(blob).signed for _, blob in past)]
        tops = (self._newest("targets", each) for each in trusted)
        top = next((each for each in tops if each), None)
        if top is None:
            raise RepositoryError("nothing here is signed by the key of targets")
        state = first_state(root)
        state.targets["targets"] = top
        for family in (top.signed.delegations.roles or {}) if top.signed.delegations else {}:
            document = self._newest(family, top.signed)
            if document is None:
                raise RepositoryError(f"nothing here is signed by the key of {family}")
            state.targets[family] = document
        for role, document in state.targets.items():
            blob = read_bounded(self._path(role, document.signed.version), MAX_METADATA_BYTES)
            state.snapshot.signed.meta[f"{role}.json"] = meta_of(document, blob)
        state.snapshot.signed.version = max(self._versions("snapshot"), default=0)
        state.timestamp.signed.version = self._last_timestamp(trusted)
        return state

    def _last_timestamp(self, trusted: Sequence[Root]) -> int:
        """Its version: devices go on from it when its key stays, and forget it when it goes."""
        for root in trusted:
            with suppress(RepositoryError):
                return self._document("timestamp", Timestamp, root, None).signed.version
        return 0

    def _newest(self, role: str, delegator: Root | Targets) -> Metadata[Targets] | None:
        """The highest version that ``delegator``'s key for ``role`` signed."""
        for version in sorted(self._versions(role), reverse=True):
            blob = read_bounded(self._path(role, version), MAX_METADATA_BYTES)
            with suppress(RepositoryError):
                document = verified(blob, role, Targets, delegator)
                if document.signed.version == version:
                    return document
        return None

    def _versions(self, role: str) -> list[int]:
        names = (path.name for path in (self.folder / "metadata").glob(f"*.{role}.json"))
        found = (re.fullmatch(rf"([0-9]+)\.{re.escape(role)}\.json", name) for name in names)
        return [int(match[1]) for match in found if match]

    def _path(self, role: str, version: int) -> Path:
        return self.folder / "metadata" / f"{version}.{role}.json"

    def _document(
        self, role: str, kind: type[T], delegator: Root | Targets, meta: MetaFile | None
    ) -> Metadata[T]:
        if meta is None and kind is not Timestamp:
            raise RepositoryError(f"the snapshot does not list {role}")
        name = f"{meta.version}.{role}.json" if meta else f"{role}.json"
        blob = read_bounded(self.folder / "metadata" / name, MAX_METADATA_BYTES)
        if meta:
            meta.verify_length_and_hashes(blob)
        return verified(blob, role, kind, delegator)

    def _commit(self, state: SignedState, roles: Sequence[str], blobs: Mapping[str, bytes]) -> None:
        """Sign ``roles`` and what names them; then write everything, the timestamp last."""
        self._write(state.root, blobs, self._signed(state, roles))

    def _signed(self, state: SignedState, roles: Sequence[str]) -> dict[str, bytes]:
        """Name -> bytes in the order of writing: ``roles``, snapshot if any, timestamp."""
        metadata: dict[str, bytes] = {}
        for role in (role for role in roles if role in state.targets):
            document = state.targets[role]
            blob = self._sign(document, role, state.delegator(role))
            metadata[f"{document.signed.version}.{role}.json"] = blob
            state.snapshot.signed.meta[f"{role}.json"] = meta_of(document, blob)
        if roles:
            blob = self._sign(state.snapshot, "snapshot", state.root.signed)
            metadata[f"{state.snapshot.signed.version}.snapshot.json"] = blob
            state.timestamp.signed.snapshot_meta = meta_of(state.snapshot, blob)
        metadata["timestamp.json"] = self._sign(state.timestamp, "timestamp", state.root.signed)
        return metadata

    def _write(
        self, root: Metadata[Root], blobs: Mapping[str, bytes], metadata: Mapping[str, bytes]
    ) -> None:
        """The order is the crash safety: see the top of this module."""
        for name, blob in blobs.items():
            path = self.folder / "targets" / stored_name(TargetFile.from_data(name, blob, HASHES))
            if not _holds(path, blob):
                write_atomic(path, blob)
        for version, blob in {root.signed.version: root.to_bytes(), **self.keys.roots}.items():
            if not self._path("root", version).exists():
                write_atomic(self._path("root", version), blob)
        for name, blob in metadata.items():
            write_atomic(self.folder / "metadata" / name, blob)

    def _sign(self, document: Metadata[T], role: str, delegator: Root | Targets) -> bytes:
        signers = self.keys.signers(keys_of(delegator, role))
        return sign_next(document, role, signers=signers, delegator=delegator, now=self._now())

    def _can_sign(self, state: SignedState, role: str) -> bool:
        delegator = state.delegator(role)
        return has_threshold(delegator, role, self.keys.signers(keys_of(delegator, role)))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with exclusive(self.folder / ".lock", "another publisher"), self._border():
            yield

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except RepositoryError as error:
            raise UntrustedError(
                f"{self.folder} does not hold what {self.keys.folder} signed ({error}): "
                "restore it from your backup before publishing"
            ) from error
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror or error}") from error


def _unheld(state: SignedState) -> list[str]:
    """Targets, if it has to be signed anew under this root."""
    top = state.targets["targets"]
    try:
        state.root.signed.verify_delegate("targets", top.signed_bytes, top.signatures)
    except RepositoryError:
        return ["targets"]
    return []


def _holds(path: Path, blob: bytes) -> bool:
    return path.exists() and path.stat().st_size == len(blob) and path.read_bytes() == blob
