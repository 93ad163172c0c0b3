"""Who may put which file of a registry over HTTP, and what it must be before it is kept.

Before the body is read the token is asked: is it known, and for this name. After it the bytes are:
a target is what its name's digest says, metadata is of the role and version that its name says, and
a timestamp, which is the switch, is followed as a device follows it (`registry.switch`).
"""

import re
from datetime import UTC, datetime
from typing import Protocol

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from compat.errors import KinspaceError, NotFoundError, RefusedError
from compat.files import digest_of
from edge.device import MAX_ARTIFACT_BYTES
from registry.repository import MAX_METADATA_BYTES, TIMESTAMP
from registry.roles import BIN
from registry.storage.port import Store
from registry.switch import HISTORY, POINTERS, Switch, read_switch
from registry.tokens import EVERY_FAMILY, Token, TokenBook, Verb

_METADATA = re.compile(r"metadata/([1-9][0-9]{0,9})\.([a-z0-9][a-z0-9._-]*)\.json")
_TARGET = re.compile(r"targets/([a-z0-9][a-z0-9._-]*)/[^/]+/([0-9a-f]{64})\.[^/]+")


class StrangerError(KinspaceError):
    """The caller shows no token that holds."""


class ForbiddenError(KinspaceError):
    """The caller's token is not for this."""


class Guard(Protocol):
    """What the routes ask before they write."""

    def enter(self, authorization: str | None, name: str) -> Token:
        """The caller's token, if it may put ``name``; "" = may list the names.

        Raises StrangerError, ForbiddenError.
        """

    def check(self, token: Token, name: str, blob: bytes) -> None:
        """Return when ``blob`` may be kept as ``name``. Raises RefusedError, ForbiddenError."""

    def max_bytes(self, name: str) -> int:
        """How long the bytes of ``name`` may be."""


class RegistryGuard:
    """The guard of a registry of signed files.

    Args:
        store: where it lies.
        book: who may do what.
        root: trusted root metadata of the registry.
    """

    def __init__(self, store: Store, book: TokenBook, root: bytes) -> None:
        self._store = store
        self._book = book
        self._root = root

    def enter(self, authorization: str | None, name: str) -> Token:
        scheme, _, words = (authorization or "").partition(" ")
        token = self._book.find(words.strip(), datetime.now(UTC))
        if scheme.lower() != "bearer" or token is None:
            raise StrangerError("no token that holds: set KINSPACE_TOKEN, see kinspace token new")
        if name in ("", TIMESTAMP):
            return token
        if found := _TARGET.fullmatch(name):
            _demand(token, found[1], ("publish", "promote"))
        elif found := _METADATA.fullmatch(name):
            self._demand_role(token, found[2])
        else:
            raise ForbiddenError(f"{name} is no file of a registry")
        return token

    def check(self, token: Token, name: str, blob: bytes) -> None:
        if found := _TARGET.fullmatch(name):
            if digest_of(blob) != found[2]:
                raise RefusedError(f"the bytes are not what the name {name} says: send them again")
        elif found := _METADATA.fullmatch(name):
            self._check_metadata(name, int(found[1]), found[2], blob)
        else:
            demand_switch(token, read_switch(self._store, self._root, blob))

    def max_bytes(self, name: str) -> int:
        return MAX_ARTIFACT_BYTES if name.startswith("targets/") else MAX_METADATA_BYTES

    def _demand_role(self, token: Token, role: str) -> None:
        """Snapshots are everybody's; roots are let through only as what is there already."""
        if role == "targets":
            _demand(token, EVERY_FAMILY, ("keys",))
        elif role not in ("snapshot", "root"):
            _demand(token, role.partition(BIN)[0], ("publish", "promote", "keys"))

    def _check_metadata(self, name: str, version: int, role: str, blob: bytes) -> None:
        if role == "root":
            try:
                there = self._store.get(name, max_bytes=MAX_METADATA_BYTES).blob
            except NotFoundError:
                there = None
            if there != blob:
                raise ForbiddenError(
                    f"{name}: a root is installed by kinspace keys assemble on the store itself"
                )
            return
        kind = role if role == "snapshot" else "targets"
        try:
            signed = Metadata.from_bytes(blob).signed
        except RepositoryError as error:
            raise RefusedError(f"{name} is no metadata: {error}") from error
        if (signed.type, signed.version) != (kind, version):
            raise RefusedError(f"{name} holds {signed.type} of version {signed.version}")


def demand_switch(token: Token, switch: Switch) -> None:
    """Return when ``token`` may make this switch.

    A channel is promoted, what it points to is published; the history is of either. Whoever signs a
    family anew and changes none of its targets needs either, too.

    Raises:
        ForbiddenError: it may not; the message says what it lacks.
    """
    if switch.top:
        _demand(token, EVERY_FAMILY, ("keys",))
    for family, kinds in switch.families.items():
        if not kinds - HISTORY:
            _demand(token, family, ("publish", "promote", "keys"))
        if kinds & POINTERS:
            _demand(token, family, ("promote",))
        if kinds - POINTERS - HISTORY:
            _demand(token, family, ("publish",))


def _demand(token: Token, family: str, verbs: tuple[Verb, ...]) -> None:
    if not any(token.may(verb, family) for verb in verbs):
        whose = "every family" if family == EVERY_FAMILY else f"family {family}"
        raise ForbiddenError(f"token {token.id} is not for {' or '.join(verbs)} of {whose}")
