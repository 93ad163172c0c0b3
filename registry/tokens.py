"""Tokens for who may change a registry over HTTP: for which families, for what, until when.

A token is ``kin_<id>_<secret>``: 256 random bits that are shown once. The book keeps their SHA-256
and nothing to guess from: a slow hash protects a person's password, and here is none. Lines of an
expired token stay until they are revoked.
"""

import hmac
import re
import secrets
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compat.errors import NotFoundError, UsageError
from compat.files import digest_of, read_bounded, write_atomic
from compat.manifest import Digest
from compat.space import NAME_PATTERN
from compat.wire import canonical_json
from edge.lock import exclusive

Verb = Literal["publish", "promote", "keys"]
EVERY_FAMILY = "*"
MAX_BOOK_BYTES = 2**22
_TOKEN = re.compile(r"kin_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


def verb_of(word: str) -> Verb:
    """Raises UsageError when ``word`` is none."""
    for verb in get_args(Verb):
        if verb == word:
            return cast(Verb, verb)
    raise UsageError(f"a token cannot be for {word!r}: choose of {', '.join(get_args(Verb))}")


class Token(BaseModel):
    """What is kept of a token: enough to know it again, not enough to make it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    secret_digest: Digest
    families: tuple[Annotated[str, Field(pattern=rf"^\*$|{NAME_PATTERN}")], ...] = Field(
        min_length=1
    )
    verbs: tuple[Verb, ...] = Field(min_length=1)
    expires: datetime

    def may(self, verb: Verb, family: str) -> bool:
        """Whether it is for ``verb`` on ``family``; ``family`` `EVERY_FAMILY` = on all of them."""
        return verb in self.verbs and bool({family, EVERY_FAMILY} & set(self.families))


class _Book(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tokens: tuple[Token, ...] = ()


class TokenBook:
    """The file of tokens. It is read at every use, so a revoked token is out at once.

    Every method raises UsageError when the file cannot be read, or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def tokens(self) -> tuple[Token, ...]:
        if not self.path.exists():
            return ()
        try:
            return _Book.model_validate_json(read_bounded(self.path, MAX_BOOK_BYTES)).tokens
        except ValidationError as error:
            raise UsageError(
                f"{self.path} is no file of tokens ({error.error_count()} errors): restore it"
            ) from error

    def add(
        self, families: tuple[str, ...], verbs: tuple[Verb, ...], *, lifetime: timedelta
    ) -> tuple[Token, str]:
        """A new token, and the words that its holder is given; they are kept nowhere."""
        secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(4)
        try:
            token = Token(
                id=token_id,
                secret_digest=digest_of(secret.encode()),
                families=families,
                verbs=verbs,
                expires=(datetime.now(UTC) + lifetime).replace(microsecond=0),
            )
        except ValidationError as error:
            words = "; ".join(each["msg"] for each in error.errors())
            raise UsageError(f"no token for {families} and {verbs}: {words}") from error
        with self._open():
            self._write((*self.tokens, token))
        return token, f"kin_{token_id}_{secret}"

    def revoke(self, token_id: str) -> None:
        """Raises NotFoundError when there is none of that id."""
        with self._open():
            before = self.tokens
            after = tuple(each for each in before if each.id != token_id)
            if len(after) == len(before):
                raise NotFoundError(f"{self.path} holds no token {token_id}: kinspace token list")
            self._write(after)

    def find(self, words: str, now: datetime) -> Token | None:
        """The token that ``words`` are, if it holds at ``now``; compared in constant time."""
        match = _TOKEN.fullmatch(words)
        if match is None:
            return None
        known = next((each for each in self.tokens if each.id == match[1]), None)
        kept = known.secret_digest if known else "0" * 64
        if not hmac.compare_digest(digest_of(match[2].encode()), kept):
            return None
        return known if known and now < known.expires else None

    def _open(self) -> AbstractContextManager[None]:
        return exclusive(self.path.with_name(f".{self.path.name}.lock"), "another token command")

    def _write(self, tokens: tuple[Token, ...]) -> None:
        book = _Book(tokens=tokens).model_dump(mode="json")
        write_atomic(self.path, canonical_json(book), mode=0o600)
