"""Signed envelopes: DSSE by securesystemslib around a statement that names its own key.

A statement is an attestation (`compat.attestation`) or a report on an update
(`compat.update_report`); the type is signed too, so that neither passes for the other.

What a signature proves: these numbers are the ones that the holder of this key signed, and two
envelopes with one key id come from the same holder. Not who that is, and not that the numbers are
true: whoever wants to know the device must know its key beforehand (docs/attestation.md).
"""

import base64
import json
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SigningError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Signature, Signer, SSlibKey

from compat.attestation import MAX_ATTESTATION_BYTES, Attestation, Attested, DeviceKey
from compat.errors import UntrustedError, UsageError
from compat.files import digest_of
from compat.manifest import Digest
from compat.update_report import UpdateReport
from compat.wire import canonical_json

PAYLOAD_TYPE = "application/vnd.kinspace.attestation+json"
REPORT_TYPE = "application/vnd.kinspace.update-report+json"


class Statement(Protocol):
    """What a device says and signs."""

    @property
    def device_key(self) -> DeviceKey: ...

    def to_bytes(self) -> bytes: ...


StatementT = TypeVar("StatementT", bound=Statement)


class Reported(NamedTuple):
    """A report whose signature was verified, and the id of the key that made it."""

    report: UpdateReport
    key_id: str  # 64 hex digits: one device, as far as its key stays its own


class _Signature(BaseModel):
    model_config = ConfigDict(frozen=True)

    keyid: Digest
    sig: str


class _Dsse(BaseModel):
    """The wire form; fields that DSSE does not know are ignored, as it asks."""

    model_config = ConfigDict(frozen=True)

    payload: str
    payload_type: str = Field(alias="payloadType")
    signatures: tuple[_Signature]  # exactly one: the device's


def public_half(key: SSlibKey) -> DeviceKey:
    """How a public key is written into an attestation.

    Raises:
        UsageError: it is of no kind that attestations are signed with. Remedy: the message's.
    """
    try:
        return DeviceKey.model_validate(
            {"keytype": key.keytype, "scheme": key.scheme, "public": key.keyval["public"]}
        )
    except ValidationError as error:
        raise UsageError(
            f"a key of type {key.keytype} cannot sign attestations: use ed25519, ecdsa or rsa"
        ) from error


def key_id_of(key: DeviceKey) -> str:
    """SHA-256 of the public key as securesystemslib counts it; never what somebody claims."""
    tree = {"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": key.public}}
    return digest_of(str(encode_canonical(tree)).encode())


def sign_attestation(attestation: Attestation, signer: Signer) -> bytes:
    """The envelope, as bytes of JSON.

    Raises:
        UsageError: the key is not the one that the attestation names, or it cannot be used now.
    """
    return _sign(attestation, PAYLOAD_TYPE, Attestation.from_bytes, signer, "attestation")


def open_envelope(blob: bytes, source: str) -> Attested:
    """The attestation in ``blob``, proven to be signed by the key that it names.

    Args:
        source: how errors call it.

    Raises:
        UntrustedError: it is no envelope, or its signature is not of these bytes by this key.
            Do not count it.
    """
    found, key_id = _open(blob, PAYLOAD_TYPE, Attestation.from_bytes, source, "attestation")
    return Attested(found, key_id, source)


def sign_report(report: UpdateReport, signer: Signer) -> bytes:
    """As `sign_attestation`, of a report."""
    return _sign(report, REPORT_TYPE, UpdateReport.from_bytes, signer, "update report")


def open_report(blob: bytes, source: str) -> Reported:
    """As `open_envelope`, of a report."""
    return Reported(*_open(blob, REPORT_TYPE, UpdateReport.from_bytes, source, "update report"))


def _sign(
    statement: StatementT,
    kind: str,
    read: Callable[[bytes], StatementT],
    signer: Signer,
    word: str,
) -> bytes:
    envelope = Envelope(statement.to_bytes(), kind, {})
    key_id = key_id_of(statement.device_key)
    try:
        made = signer.sign(envelope.pae())
    except (SigningError, ValueError, OSError) as error:
        raise UsageError(f"cannot sign the {word}: {error}") from error
    envelope.signatures[key_id] = Signature(key_id, made.signature)
    blob = canonical_json(envelope.to_dict())
    try:
        _open(blob, kind, read, f"the {word} just made", word)
    except UntrustedError as error:
        raise UsageError(f"the key does not fit its public half: {error}") from error
    return blob


def _open(
    blob: bytes, kind: str, read: Callable[[bytes], StatementT], source: str, word: str
) -> tuple[StatementT, str]:
    """The statement and the id of its key."""
    if len(blob) > MAX_ATTESTATION_BYTES:
        raise UntrustedError(f"{source} holds more than {MAX_ATTESTATION_BYTES} bytes")
    try:
        wire = _Dsse.model_validate(json.loads(blob))
        payload = base64.b64decode(wire.payload, validate=True)
        signature = base64.b64decode(wire.signatures[0].sig, validate=True)
    except (ValueError, RecursionError) as error:
        raise UntrustedError(f"{source} is no signed {word}: {error}") from error
    if wire.payload_type != kind:
        raise UntrustedError(
            f"{source} is no signed {word}: its payloadType is {wire.payload_type!r}"
        )
    try:
        statement = read(payload)
    except UntrustedError as error:
        raise UntrustedError(f"{source}: {error}") from error
    key, named = statement.device_key, wire.signatures[0].keyid
    key_id = key_id_of(key)
    if named != key_id:
        raise UntrustedError(f"{source} is signed by key {named[:12]}, it names {key_id[:12]}")
    envelope = Envelope(payload, kind, {key_id: Signature(key_id, signature.hex())})
    try:
        public = SSlibKey(key_id, key.keytype, key.scheme, {"public": key.public})
        envelope.verify([public], 1)
    except (SigningError, ValueError) as error:
        raise UntrustedError(
            f"{source}: the signature is not of these bytes by key {key_id[:12]}"
        ) from error
    return statement, key_id
