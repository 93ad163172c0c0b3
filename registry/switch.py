"""What a registry would be switched to: verified as a device does it, before devices see it.

The new timestamp is believed only with all that it names: signatures, expiry and versions by
python-tuf's own client, each changed family by its delegation, each new target by its bytes. Then
the difference to what is served says whose doing it is. Nothing is written here.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from compat.errors import NotFoundError, UntrustedError
from edge.trusted import TrustedFiles
from registry.local_release import StoreFetcher
from registry.repository import MAX_METADATA_BYTES, TIMESTAMP
from registry.roles import bins_of, stored_name, verified
from registry.signed_files import stream
from registry.storage.port import Store

# <family>/<kind>/<name>: what points to a release, and the history of it; the rest is published
POINTERS, HISTORY = frozenset({"channels"}), frozenset({"log"})


@dataclass(frozen=True)
class Switch:
    """What one commit changes."""

    top: bool  # the document that lets families in
    families: Mapping[str, frozenset[str]]  # re-signed -> kinds of targets that came, went, changed


class _Pending(StoreFetcher):
    """The store, as it would be with this timestamp."""

    def __init__(self, store: Store, timestamp: bytes) -> None:
        super().__init__(store)
        self._timestamp = timestamp

    def _fetch(self, url: str) -> Iterator[bytes]:
        if url.endswith(f"/{TIMESTAMP}"):
            return iter((self._timestamp,))
        return super()._fetch(url)


def read_switch(store: Store, root: bytes, timestamp: bytes) -> Switch:
    """What serving ``timestamp`` would change in the registry in ``store``.

    Args:
        root: trusted root metadata; later ones are found from it in the store.

    Raises:
        UntrustedError: a device would refuse it. Remedy: publish again from what is served.
        OfflineError: the store does not answer.
    """
    fetcher = _Pending(store, timestamp)
    where = f"{store}/metadata/", f"{store}/targets/"
    try:
        with TemporaryDirectory(prefix="kinspace-") as folder:
            scratch = Path(folder)
            served = _served(store, scratch)
            TrustedFiles(*where, scratch, root, fetcher=fetcher).refresh()
            snapshot = Metadata[Snapshot].from_file(str(scratch / "snapshot.json")).signed
            top = Metadata[Targets].from_file(str(scratch / "targets.json")).signed
        return _difference(store, served, snapshot, top)
    except (RepositoryError, NotFoundError) as error:
        raise UntrustedError(f"devices would refuse what this timestamp names: {error}") from error


def _served(store: Store, scratch: Path) -> Snapshot:
    """The snapshot that is served now; what a device has seen is laid into ``scratch``."""
    blob = store.get(TIMESTAMP, max_bytes=MAX_METADATA_BYTES).blob
    timestamp = Metadata[Timestamp].from_bytes(blob).signed
    (scratch / "timestamp.json").write_bytes(blob)
    blob = _read(store, "snapshot", timestamp.snapshot_meta)
    snapshot = Metadata[Snapshot].from_bytes(blob).signed
    (scratch / "snapshot.json").write_bytes(blob)
    return snapshot


def _difference(store: Store, served: Snapshot, snapshot: Snapshot, top: Targets) -> Switch:
    changed = {}
    for family in (top.delegations.roles or {}) if top.delegations else {}:
        document = _verified(store, family, top, snapshot)
        bins = {each: _verified(store, each, document, snapshot) for each in bins_of(document)}
        documents = {family: document, **bins}
        signed = [each for role, each in documents.items() if _is_new(role, served, snapshot)]
        if any(each.is_expired(datetime.now(UTC)) for each in signed):
            raise RepositoryError(f"{family} is expired")
        if signed:
            listed = {
                name: file for each in documents.values() for name, file in each.targets.items()
            }
            changed[family] = _kinds(store, family, _before(store, family, served), listed)
    return Switch(top=_is_new("targets", served, snapshot), families=changed)


def _is_new(role: str, served: Snapshot, snapshot: Snapshot) -> bool:
    return served.meta.get(f"{role}.json") != snapshot.meta.get(f"{role}.json")


def _verified(store: Store, role: str, delegator: Targets, snapshot: Snapshot) -> Targets:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise RepositoryError(f"the snapshot does not list {role}")
    document = verified(_read(store, role, meta), role, Targets, delegator).signed
    if document.version != meta.version:
        raise RepositoryError(f"{role} is of version {document.version}, not {meta.version}")
    return document


def _before(store: Store, family: str, served: Snapshot) -> dict[str, TargetFile]:
    """What is served of a family; it was verified when it became so."""
    listed: dict[str, TargetFile] = {}
    roles = [family]
    for role in roles:
        if meta := served.meta.get(f"{role}.json"):
            document = Metadata[Targets].from_bytes(_read(store, role, meta)).signed
            listed |= document.targets
            roles += bins_of(document)
    return listed


def _kinds(
    store: Store, family: str, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]
) -> frozenset[str]:
    """Kinds of the targets that differ; those that came are there, byte for byte."""
    names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    for name in sorted(names & new.keys()):
        if name.split("/")[0] != family or name.count("/") != 2:
            raise RepositoryError(f"{family} must not sign for {name}")
        _check_bytes(store, new[name])
    return frozenset(name.split("/")[1] for name in names)


def _check_bytes(store: Store, target: TargetFile) -> None:
    name = f"targets/{stored_name(target)}"
    if (size_bytes := store.size(name)) != target.length:
        raise RepositoryError(f"{name} has {size_bytes} bytes, signed are {target.length}")
    sha256 = hashlib.sha256()
    for piece in stream(store, name, 0, target.length):
        sha256.update(piece)
    if target.hashes != {"sha256": sha256.hexdigest()}:
        raise RepositoryError(f"{name} holds other bytes than are signed")


def _read(store: Store, role: str, meta: MetaFile) -> bytes:
    blob = store.get(f"metadata/{meta.version}.{role}.json", max_bytes=MAX_METADATA_BYTES).blob
    meta.verify_length_and_hashes(blob)
    return blob
