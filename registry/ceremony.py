"""A root that several people sign, each on a machine of their own: draft, sign, assemble.

A draft is root metadata as TUF writes it, whole but for signatures, so that any TUF tool can show
what is about to be signed. Holders sign copies of it; `combined` brings the copies together, and
tuf counts: a new root needs the threshold of the root before it and its own (TUF 5.3.4). Pure: no
disk and no clock in here. Why: docs/adr/0003.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from datetime import datetime

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from compat.errors import UntrustedError, UsageError
from registry.roles import lifetime

MAX_DRAFT_BYTES = 512_000  # as tuf.ngclient bounds the roots that it fetches


def founding_draft(
    root_keys: Sequence[Key], others: Mapping[str, Key], *, threshold: int, now: datetime
) -> Metadata[Root]:
    """Version 1, unsigned: ``root_keys`` sign for root, ``threshold`` of them; ``others`` as named.

    Raises:
        UsageError: the threshold cannot be met. Remedy: more keys.
        UntrustedError: two different keys have one id.
    """
    root = Root(version=1, consistent_snapshot=True)
    for key in root_keys:
        _add(root, key, "root")
    for role, key in others.items():
        _add(root, key, role)
    return _drafted(root, "root", threshold, now)


def rotation_draft(
    trusted: Root,
    role: str,
    *,
    add: Sequence[Key],
    remove: Collection[str],
    threshold: int | None = None,
    now: datetime,
) -> Metadata[Root]:
    """The version after ``trusted``, unsigned, in which other keys sign for ``role``.

    ``remove`` holds key ids. ``threshold`` None = as before.

    Raises:
        UsageError: a key to remove is none of the role, or too few would be left.
    """
    root = deepcopy(trusted)
    root.version += 1
    for keyid in remove:
        if keyid not in root.roles[role].keyids:
            raise UsageError(f"key {keyid[:12]} does not sign for {role}: see kinspace keys status")
        root.revoke_key(keyid, role)
    for key in add:
        _add(root, key, role)
    return _drafted(root, role, threshold or root.roles[role].threshold, now)


def read_draft(blob: bytes) -> Metadata[Root]:
    """The draft in ``blob``, signed or not.

    Raises:
        UsageError: it is none.
    """
    try:
        draft: Metadata[Root] = Metadata.from_bytes(blob)
    except DeserializationError as error:
        raise UsageError(f"this is no draft of a root ({error})") from error
    if not isinstance(draft.signed, Root):
        raise UsageError(f"this is no draft of a root but a {draft.signed.type}")
    return draft


def signed_draft(draft: Metadata[Root], signers: Sequence[Signer]) -> Metadata[Root]:
    """A copy of ``draft`` that carries the signatures of ``signers`` as well."""
    signed = deepcopy(draft)
    for signer in signers:
        signed.sign(signer, append=True)
    return signed


def combined(copies: Sequence[Metadata[Root]]) -> Metadata[Root]:
    """One draft with every signature that its ``copies`` carry.

    Raises:
        UntrustedError: they are not copies of one another: somebody was shown something else.
    """
    first, *rest = copies
    one = deepcopy(first)
    for copy in rest:
        if copy.signed_bytes != first.signed_bytes:
            raise UntrustedError(
                "these drafts differ in more than their signatures: compare them before anybody "
                "signs again"
            )
        one.signatures.update(copy.signatures)
    return one


def missing_signatures(draft: Metadata[Root], trusted: Root | None) -> int:
    """How many more are needed: by the root before it, and by itself; 0 = it may be installed.

    ``trusted`` is the root that holds now; None at the founding.

    Raises:
        UsageError: the draft does not follow ``trusted``. Remedy: draft it anew.
        UntrustedError: it is another root of the version that is trusted.
    """
    repeated = trusted is not None and trusted.version == draft.signed.version
    if repeated and trusted != draft.signed:
        raise UntrustedError(
            f"another root {draft.signed.version} is trusted here: two drafts of one version"
        )
    previous = None if repeated else trusted
    try:
        count = draft.signed.get_root_verification_result(
            previous, draft.signed_bytes, draft.signatures
        )
    except ValueError as error:
        raise UsageError(
            f"root {draft.signed.version} does not follow root {trusted and trusted.version} "
            f"({error}): draft it anew"
        ) from error
    return max(count.first.missing, count.second.missing)


def _add(root: Root, key: Key, role: str) -> None:
    if root.keys.get(key.keyid, key) != key:
        raise UntrustedError(f"two keys call themselves {key.keyid[:12]}: ask their holders")
    root.add_key(key, role)


def _drafted(root: Root, role: str, threshold: int, now: datetime) -> Metadata[Root]:
    keys = len(root.roles[role].keyids)
    if not 1 <= threshold <= keys:
        raise UsageError(f"{threshold} of {keys} keys cannot sign for {role}: name more keys")
    root.roles[role].threshold = threshold
    root.expires = (now + lifetime("root")).replace(microsecond=0)
    return Metadata(root)
