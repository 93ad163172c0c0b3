"""A registry in a store: signed static files that any web server or bucket serves.

``metadata/`` is what TUF signs, ``targets/`` what is signed for: a standard TUF client reads both.
A change is one commit. Everything is signed in memory first, then written in an order in which
nothing that is served names what is not there yet: targets, family role, snapshot, and the
timestamp, whose replacement is the commit. It succeeds only over the timestamp that was loaded: of
two publishers one wins, the other gets ConflictError and retries. Before it the old state is
served; a repeat starts from what is committed and takes version numbers that no crash left used.
What is read back is verified before it is signed anew: a publisher does not lend its keys to
whoever can write to the bucket. Why: docs/adr/0003, docs/adr/0010.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, TargetFile, Targets, Timestamp

from compat.errors import ConflictError, RefusedError, UntrustedError, UsageError
from registry.ceremony import missing_signatures
from registry.keys import KeyFolder
from registry.roles import (
    BIN,
    HASHES,
    MAX_BINS,
    TOP_ROLES,
    SignedState,
    bins_of,
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
from registry.storage.files import FileStore
from registry.storage.port import Store, conflict

MAX_METADATA_BYTES = 5_000_000  # what the device accepts as well (tuf.ngclient targets_max_length)
TIMESTAMP = "metadata/timestamp.json"
TARGET_PART = re.compile(r"[a-z0-9][a-z0-9._-]*")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """The publisher's side of one registry, in ``registry``: a folder or any store.

    Every method raises UsageError when a file or key cannot be read or written; ConflictError when
    another publisher was first (nothing of this call is served: repeat it); OfflineError when the
    store does not answer; UntrustedError when what the registry holds is not what was signed.
    """

    def __init__(
        self, registry: Path | Store, keys: KeyFolder, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.store: Store = FileStore(registry) if isinstance(registry, Path) else registry
        self.keys = keys
        self._now = now

    def now(self) -> datetime:
        """The publisher's clock."""
        return self._now()

    def create(self) -> None:
        """Make the registry, with new keys where there are none; safe to repeat."""
        if isinstance(self.store, FileStore):
            folder = self.store.folder.resolve()
            if self.keys.folder.resolve().is_relative_to(folder):
                raise UsageError(
                    f"{self.keys.folder} is inside {folder}, which everybody reads: "
                    "keep the keys elsewhere"
                )
        with self._border():
            if self.keys.root is None:
                root = first_root({role: self.keys.create(role) for role in TOP_ROLES})
                self.keys.write_root(1, self._sign(root, "root", root.signed))
            if self.store.stat(TIMESTAMP):
                self._load()  # raises when it was signed by other keys
            else:
                self._commit(first_state(self._root()), ["targets"], {}, seen=None)

    def add_family(self, family: str, *, bins: int = 1) -> None:
        """Let a key of its own sign for ``family``, and for nothing else; safe to repeat.

        Args:
            bins: how many documents list its targets, a power of two up to `MAX_BINS`. They stay as
                they are when the family is there already (docs/adr/0018).
        """
        if family in TOP_ROLES or BIN in family or not TARGET_PART.fullmatch(family):
            raise UsageError(f"a family cannot be named {family!r}: choose another name")
        if not 1 <= bins <= MAX_BINS or bins & (bins - 1):
            raise UsageError(f"{bins} bins: choose 1, 2, 4 and so on, at most {MAX_BINS}")
        with self._border():
            state, seen = self._load()
            if family not in state.families:
                state.delegate(family, self.keys.create(family), bins=bins)
                self._commit(state, ["targets", family, *state.bins(family)], {}, seen=seen)

    def install_root(self, draft: Metadata[Root]) -> None:
        """Trust and serve a root that its holders have signed; safe to repeat after a crash.

        Snapshot and timestamp are made anew from what the offline keys signed: whatever a thief of
        the online keys wrote, versions without end included, is left behind (TUF 6.1).

        Raises:
            UsageError: signatures are missing, or a key that must sign now is not at hand.
            UntrustedError: another root of this version is trusted already.
        """
        with self._border():
            before = self._root() if self.keys.root is not None else None
            if missing := missing_signatures(draft, before.signed if before else None):
                raise UsageError(f"root {draft.signed.version} misses {missing} signatures")
            served = self.store.stat(TIMESTAMP)
            state = self._salvaged(draft) if served else first_state(draft)
            documents, timestamp = self._signed(state, [*_unheld(state), "snapshot"])
            self.keys.write_root(draft.signed.version, draft.to_bytes())
            self._write(draft, {}, documents)
            self._put_timestamp(timestamp, served.version if served else None)

    def rotate_family(self, family: str) -> None:
        """Let a new key sign for ``family``; what the old one signs is refused from now on."""
        with self._border():
            state, seen = self._load()
            state.family(family)
            if not self._can_sign(state, "targets"):
                raise UsageError("only the key of targets lets another key sign: bring it")
            state.redelegate(family, self.keys.create_next(family))
            self._commit(state, ["targets", family, *state.bins(family)], {}, seen=seen)

    @property
    def state(self) -> SignedState:
        """What is committed, verified; a copy."""
        with self._border():
            return self._load()[0]

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
            return self._load()[0].families

    @property
    def version(self) -> str:
        """What is committed now, as the store calls it: it changes with every commit."""
        return self.store.get(TIMESTAMP, max_bytes=MAX_METADATA_BYTES).version

    def sign_targets(
        self,
        family: str,
        blobs: Mapping[str, bytes],
        *,
        moving: Mapping[str, bytes],
        expected: str | None = None,
    ) -> None:
        """Publish targets (name -> bytes) of one family in one commit; only ``moving`` ones change.

        Args:
            expected: the `version` on which the caller decided; None = whatever is committed.

        Raises:
            ConflictError: another publisher committed since. Remedy: decide anew and repeat.
            RefusedError: one of ``blobs`` is published with other bytes. Remedy: a new version.
        """
        for name in (*blobs, *moving):
            parts = name.split("/")
            if len(parts) != 3 or parts[0] != family or not all(map(TARGET_PART.fullmatch, parts)):
                raise UsageError(f"{name!r} is no name of a target of family {family}")
        with self._border():
            state, seen = self._load()
            if expected not in (None, seen):
                raise conflict(TIMESTAMP)
            roles = []
            for name, blob in {**blobs, **moving}.items():
                roles.append(state.role_of(family, name))
                listed = state.targets[roles[-1]].signed.targets
                target = TargetFile.from_data(name, blob, HASHES)
                if name not in moving and listed.get(name, target) != target:
                    raise RefusedError(
                        f"{name} is published with other bytes: choose a new version"
                    )
                listed[name] = target
            changed = list(dict.fromkeys(roles)) or [family]
            self._commit(state, changed, {**blobs, **moving}, seen=seen)

    def read(self, family: str, name: str, *, max_bytes: int) -> bytes | None:
        """The published bytes of ``name``, verified; None when the family does not list it."""
        with self._border():
            state = self._load()[0]
            target = state.targets[state.role_of(family, name)].signed.targets.get(name)
            if target is None:
                return None
            blob = self.store.get(f"targets/{stored_name(target)}", max_bytes=max_bytes).blob
            target.verify_length_and_hashes(blob)
            return blob

    def refresh(self) -> dict[str, datetime]:
        """Sign the timestamp anew, and whatever has less than half of its life left.

        Roles whose keys are not at hand stay as they are.

        Returns:
            When each role expires.
        """
        with self._border():
            state, seen = self._load()
            stale = [role for role in state.stale(self._now()) if self._can_sign(state, role)]
            if "root" in stale:
                blob = self._sign(state.root, "root", state.root.signed)
                self.keys.write_root(state.root.signed.version, blob)
            roles = [role for role in stale if role not in ("root", "timestamp")]
            self._commit(state, roles, {}, seen=seen)
            return state.expires()

    def _root(self) -> Metadata[Root]:
        """The root that this publisher trusts: the one in its key folder, not the served one."""
        blob = self.keys.root
        if blob is None:
            raise UsageError(f"{self.keys.folder} holds no keys of a registry: kinspace keys init")
        return verified_root(blob)

    def _load(self) -> tuple[SignedState, str]:
        """What is committed, each document verified by its delegator, and the store's version."""
        root = self._root()
        stored = self.store.get(TIMESTAMP, max_bytes=MAX_METADATA_BYTES)
        timestamp = verified(stored.blob, "timestamp", Timestamp, root.signed)
        snapshot = self._document("snapshot", Snapshot, root.signed, timestamp.signed.snapshot_meta)
        meta = snapshot.signed.meta
        top = self._document("targets", Targets, root.signed, meta.get("targets.json"))
        families = (top.signed.delegations.roles or {}) if top.signed.delegations else {}
        targets = {
            family: self._document(family, Targets, top.signed, meta.get(f"{family}.json"))
            for family in families
        }
        bins = {
            each: self._document(each, Targets, document.signed, meta.get(f"{each}.json"))
            for document in targets.values()
            for each in bins_of(document.signed)
        }
        state = SignedState(root, {"targets": top, **targets, **bins}, snapshot, timestamp)
        return state, stored.version

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
        for family in state.families:
            document = self._newest_of(family, top.signed)
            bins = {
                each: self._newest_of(each, document.signed) for each in bins_of(document.signed)
            }
            state.targets |= {family: document, **bins}
        for role, document in state.targets.items():
            blob = self._read(role, document.signed.version)
            state.snapshot.signed.meta[f"{role}.json"] = meta_of(document, blob)
        state.snapshot.signed.version = max(self._versions("snapshot"), default=0)
        state.timestamp.signed.version = self._last_timestamp(trusted)
        return state

    def _last_timestamp(self, trusted: Sequence[Root]) -> int:
        """Its version: devices go on from it when its key stays, and forget it when it goes."""
        blob = self.store.get(TIMESTAMP, max_bytes=MAX_METADATA_BYTES).blob
        for root in trusted:
            with suppress(RepositoryError):
                return verified(blob, "timestamp", Timestamp, root).signed.version
        return 0

    def _newest_of(self, role: str, delegator: Targets) -> Metadata[Targets]:
        document = self._newest(role, delegator)
        if document is None:
            raise RepositoryError(f"nothing here is signed by the key of {role}")
        return document

    def _newest(self, role: str, delegator: Root | Targets) -> Metadata[Targets] | None:
        """The highest version that ``delegator``'s key for ``role`` signed."""
        for version in sorted(self._versions(role), reverse=True):
            with suppress(RepositoryError):
                document = verified(self._read(role, version), role, Targets, delegator)
                if document.signed.version == version:
                    return document
        return None

    def _versions(self, role: str) -> list[int]:
        pattern = re.compile(rf"metadata/([0-9]+)\.{re.escape(role)}\.json")
        found = (pattern.fullmatch(name) for name in self.store.list("metadata/"))
        return [int(match[1]) for match in found if match]

    def _read(self, role: str, version: int) -> bytes:
        name = f"metadata/{version}.{role}.json"
        return self.store.get(name, max_bytes=MAX_METADATA_BYTES).blob

    def _document(
        self, role: str, kind: type[T], delegator: Root | Targets, meta: MetaFile | None
    ) -> Metadata[T]:
        if meta is None:
            raise RepositoryError(f"the snapshot does not list {role}")
        blob = self._read(role, meta.version)
        meta.verify_length_and_hashes(blob)
        return verified(blob, role, kind, delegator)

    def _commit(
        self,
        state: SignedState,
        roles: Sequence[str],
        blobs: Mapping[str, bytes],
        *,
        seen: str | None,
    ) -> None:
        """Sign ``roles`` and what names them; write everything, the timestamp over ``seen`` last.

        The order is the crash safety: see the top of this module.
        """
        documents, timestamp = self._signed(state, roles)
        self._write(state.root, blobs, documents)
        self._put_timestamp(timestamp, seen)

    def _signed(self, state: SignedState, roles: Sequence[str]) -> tuple[dict[str, bytes], bytes]:
        """Name -> bytes of ``roles`` and, if any, the snapshot; and the timestamp."""
        documents: dict[str, bytes] = {}
        taken = self.store.list("metadata/")
        for role in (role for role in roles if role in state.targets):
            document = state.targets[role]
            name, blob = self._sign_free(document, role, state.delegator(role), taken)
            documents[name] = blob
            state.snapshot.signed.meta[f"{role}.json"] = meta_of(document, blob)
        if roles:
            name, blob = self._sign_free(state.snapshot, "snapshot", state.root.signed, taken)
            documents[name] = blob
            state.timestamp.signed.snapshot_meta = meta_of(state.snapshot, blob)
        return documents, self._sign(state.timestamp, "timestamp", state.root.signed)

    def _write(
        self, root: Metadata[Root], blobs: Mapping[str, bytes], documents: Mapping[str, bytes]
    ) -> None:
        """All but the timestamp: nothing of it is named by what is served."""
        for name, blob in blobs.items():
            self._put_target(stored_name(TargetFile.from_data(name, blob, HASHES)), blob)
        for version, blob in {root.signed.version: root.to_bytes(), **self.keys.roots}.items():
            self._put_root(version, blob)
        for name, blob in documents.items():
            self.store.put_new(name, blob)

    def _put_timestamp(self, timestamp: bytes, seen: str | None) -> None:
        """The commit: over ``seen``, or as the first one."""
        if seen is None:
            self.store.put_new(TIMESTAMP, timestamp)
        else:
            self.store.replace(TIMESTAMP, timestamp, expected=seen)

    def _put_target(self, name: str, blob: bytes) -> None:
        """The name holds the digest: other bytes under it are spoilt, and are replaced."""
        try:
            self.store.put_new(f"targets/{name}", blob)
        except ConflictError:
            spoilt = self.store.stat(f"targets/{name}")
            if spoilt is None:
                raise
            self.store.replace(f"targets/{name}", blob, expected=spoilt.version)

    def _put_root(self, version: int, root: bytes) -> None:
        name = f"metadata/{version}.root.json"
        try:
            self.store.put_new(name, root)
        except ConflictError as error:  # no number can be skipped: devices fetch root after root
            raise UntrustedError(
                f"{self.store} holds another {name} than {self.keys.folder}: publish with the keys "
                "that made this registry, or make one elsewhere"
            ) from error

    def _sign_free(
        self, document: Metadata[T], role: str, delegator: Root | Targets, taken: Collection[str]
    ) -> tuple[str, bytes]:
        """Sign ``document`` as its next version that is not ``taken``; its name and bytes.

        A crash, or somebody still at work, may have used a number that nothing committed names.
        """
        while f"metadata/{document.signed.version + 1}.{role}.json" in taken:
            document.signed.version += 1
        blob = self._sign(document, role, delegator)
        return f"metadata/{document.signed.version}.{role}.json", blob

    def _sign(self, document: Metadata[T], role: str, delegator: Root | Targets) -> bytes:
        signers = self.keys.signers(keys_of(delegator, role))
        return sign_next(document, role, signers=signers, delegator=delegator, now=self._now())

    def _can_sign(self, state: SignedState, role: str) -> bool:
        delegator = state.delegator(role)
        return has_threshold(delegator, role, self.keys.signers(keys_of(delegator, role)))

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except RepositoryError as error:
            raise UntrustedError(
                f"{self.store} does not hold what {self.keys.folder} signed ({error}): "
                "restore it from your backup before publishing"
            ) from error


def _unheld(state: SignedState) -> list[str]:
    """Targets, if it has to be signed anew under this root."""
    top = state.targets["targets"]
    try:
        state.root.signed.verify_delegate("targets", top.signed_bytes, top.signatures)
    except RepositoryError:
        return ["targets"]
    return []
