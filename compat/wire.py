"""Wire formats: what is signed or sent between versions that do not know each other.

A reader keeps the fields that it does not know, so that an older program re-writes a newer file
whole. No NaN: it would win comparisons.
"""

import json
from typing import ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from compat.errors import UntrustedError


class Wire(BaseModel):
    """A frozen value in a wire format."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


WireT = TypeVar("WireT", bound=Wire)


class Document(Wire):
    """A whole file in a wire format."""

    CALLED: ClassVar[str]  # with its article, in refusals

    def to_bytes(self) -> bytes:
        """See `canonical_json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UntrustedError when the bytes are none of a format that this version reads."""
        return read_wire(cls, blob, cls.CALLED)


def read_wire(kind: type[WireT], blob: bytes, called: str) -> WireT:
    """Raises UntrustedError when ``blob`` is not a ``kind``, ``called`` so in the refusal."""
    try:
        return kind.model_validate_json(blob)
    except ValidationError as error:
        raise UntrustedError(f"not {called} that this version reads: {error}") from error


def canonical_json(tree: object) -> bytes:
    """The one spelling of a JSON tree: sorted keys, two-space indent, UTF-8, newline at the end."""
    text = json.dumps(tree, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()
