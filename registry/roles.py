"""What is signed: the roles of a registry, how long a signature speaks, the next version of each.

`SignedState` is one committed set of documents, verified, open for one edit. No disk in here: the
caller brings bytes, signers and ``now``. Bytes that fail a check raise tuf's RepositoryError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from compat.errors import UsageError

HASHES = ["sha256"]
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
# How long a signature speaks. The longer, the longer a stolen mirror can hold devices back; the
# shorter, the more often its key must be at hand. Root and targets live offline. A family is signed
# at each release. Snapshot and timestamp live where a machine re-signs them every few hours.
LIFETIMES = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=1),
}
FAMILY_LIFETIME = timedelta(days=90)
BIN = ".bin-"  # furniture.bin-0a is a bin of furniture; no family is named so
MAX_BINS = 256


@dataclass
class SignedState:
    """The documents of a registry that belong together."""

    root: Metadata[Root]
    targets: dict[str, Metadata[Targets]]  # "targets", each family, and the bins of those with bins
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    @property
    def families(self) -> tuple[str, ...]:
        top = self.targets["targets"].signed
        return tuple(sorted(top.delegations.roles or ())) if top.delegations else ()

    def family(self, family: str) -> Targets:
        """Raises UsageError when nobody signs for ``family`` here."""
        if family not in self.families:
            raise UsageError(
                f"this registry has no family {family}, only {list(self.families)}: "
                f"add it with kinspace keys init REGISTRY --family {family}"
            )
        return self.targets[family].signed

    def bins(self, family: str) -> tuple[str, ...]:
        return bins_of(self.family(family))

    def role_of(self, family: str, name: str) -> str:
        """The role that lists the target ``name``: the family, or one of its bins."""
        delegations = self.family(family).delegations
        if delegations and delegations.succinct_roles:
            return delegations.succinct_roles.get_role_for_target(name)
        return family

    def listed(self, family: str) -> dict[str, TargetFile]:
        """All targets of ``family``, by name; a copy."""
        documents = [
            self.family(family),
            *(self.targets[each].signed for each in self.bins(family)),
        ]
        return {name: target for each in documents for name, target in each.targets.items()}

    def delegator(self, role: str) -> Root | Targets:
        """Who says which keys sign for ``role``."""
        if role in TOP_ROLES:
            return self.root.signed
        family = role.partition(BIN)[0]
        return self.targets["targets" if family == role else family].signed

    def expires(self) -> dict[str, datetime]:
        return {
            "root": self.root.signed.expires,
            **{role: document.signed.expires for role, document in self.targets.items()},
            "snapshot": self.snapshot.signed.expires,
            "timestamp": self.timestamp.signed.expires,
        }

    def stale(self, now: datetime) -> list[str]:
        """Roles with less than half of their life left."""
        return [
            role for role, expires in self.expires().items() if expires - now < lifetime(role) / 2
        ]

    def delegate(self, family: str, key: Key, *, bins: int = 1) -> None:
        """Let ``key`` sign for targets named ``<family>/<kind>/<name>``, and for nothing else.

        Args:
            bins: how many documents list them, a power of two; 1 = the family's own (adr/0018).
        """
        top = self.targets["targets"].signed
        roles = dict(top.delegations.roles or {}) if top.delegations else {}
        keys = dict(top.delegations.keys) if top.delegations else {}
        roles[family] = DelegatedRole(
            family, [], threshold=1, terminating=True, paths=[f"{family}/*/*"]
        )
        top.delegations = Delegations(keys, roles)
        top.add_key(key, family)
        document = Targets()
        if bins > 1:
            succinct = SuccinctRoles([], 1, bins.bit_length() - 1, family + BIN.removesuffix("-"))
            document.delegations = Delegations({}, None, succinct)
            document.add_key(key)
        self.targets |= {each: _unsigned(Targets()) for each in bins_of(document)}
        self.targets[family] = _unsigned(document)

    def redelegate(self, family: str, key: Key) -> None:
        """Let ``key`` sign for ``family`` from now on, and none of those that did."""
        top = self.targets["targets"].signed
        document = self.targets[family].signed
        for old in keys_of(top, family):
            top.revoke_key(old.keyid, family)
            if bins_of(document):
                document.revoke_key(old.keyid)
        top.add_key(key, family)
        if bins_of(document):
            document.add_key(key)


def first_root(keys: Mapping[str, Key]) -> Metadata[Root]:
    """A root, not yet signed, in which ``keys`` sign for `TOP_ROLES`."""
    root = Root(consistent_snapshot=True)
    for role, key in keys.items():
        root.add_key(key, role)
    return _unsigned(root)


def first_state(root: Metadata[Root]) -> SignedState:
    """An empty registry under ``root``, not yet signed."""
    targets = {"targets": _unsigned(Targets())}
    return SignedState(root, targets, _unsigned(Snapshot()), _unsigned(Timestamp()))


def bins_of(document: Targets) -> tuple[str, ...]:
    """Roles that list the targets in the place of this document; none when it lists them itself."""
    succinct = document.delegations.succinct_roles if document.delegations else None
    return tuple(succinct.get_roles()) if succinct else ()


def lifetime(role: str) -> timedelta:
    return LIFETIMES.get(role, FAMILY_LIFETIME)


def keys_of(delegator: Root | Targets, role: str) -> list[Key]:
    return [delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids]


def has_threshold(delegator: Root | Targets, role: str, signers: Sequence[Signer]) -> bool:
    return len(signers) >= delegator.get_delegated_role(role).threshold


def verified_root(blob: bytes) -> Metadata[Root]:
    """The root in ``blob``, signed as it demands itself: trusted because of where it came from.

    Raises:
        RepositoryError: it is not.
    """
    document: Metadata[Root] = Metadata.from_bytes(blob)
    if not isinstance(document.signed, Root):
        raise RepositoryError("it is no root")
    document.signed.verify_delegate("root", document.signed_bytes, document.signatures)
    return document


def verified(blob: bytes, role: str, kind: type[T], delegator: Root | Targets) -> Metadata[T]:
    """The document in ``blob``, signed as ``delegator`` demands for ``role``.

    Raises:
        RepositoryError: it is not.
    """
    document: Metadata[T] = Metadata.from_bytes(blob)
    if not isinstance(document.signed, kind):
        raise RepositoryError(f"{role} holds another type")
    delegator.verify_delegate(role, document.signed_bytes, document.signatures)
    return document


def sign_next(
    document: Metadata[T],
    role: str,
    *,
    signers: Sequence[Signer],
    delegator: Root | Targets,
    now: datetime,
) -> bytes:
    """Turn ``document`` into its next version, signed by all ``signers``; the bytes to publish.

    Raises:
        UsageError: fewer signers than the threshold of ``role``. Remedy: bring more keys.
    """
    if not has_threshold(delegator, role, signers):
        needed = delegator.get_delegated_role(role).threshold
        raise UsageError(f"role {role} needs {needed} signatures, keys at hand: {len(signers)}")
    document.signed.version += 1
    document.signed.expires = (now + lifetime(role)).replace(microsecond=0)
    document.signatures.clear()
    for signer in signers:
        document.sign(signer, append=True)
    return document.to_bytes()


def stored_name(target: TargetFile) -> str:
    """Where the bytes of a target lie: under a name that their digest changes."""
    return target.get_prefixed_paths()[0]


def meta_of(document: Metadata[T], blob: bytes) -> MetaFile:
    return MetaFile.from_data(document.signed.version, blob, HASHES)


def _unsigned(signed: T) -> Metadata[T]:
    signed.version = 0  # `sign_next` makes it 1
    return Metadata(signed)
