"""Signatures of attestations, and everything that must not pass for one."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from securesystemslib.signer import CryptoSigner

from compat.attestation import MAX_ATTESTATION_BYTES, DeviceKey
from compat.errors import UntrustedError, UsageError
from edge.envelope import PAYLOAD_TYPE, key_id_of, open_envelope, public_half, sign_attestation

SIGNER = CryptoSigner.generate_ed25519()
OTHER = CryptoSigner.generate_ed25519()


@pytest.fixture
def envelope(attested_as) -> bytes:
    return sign_attestation(attested_as(public_half(SIGNER.public_key)), SIGNER)


def changed(envelope: bytes, **over: object) -> bytes:
    return json.dumps({**json.loads(envelope), **over}).encode()


def test_what_was_signed_is_read_and_named_by_its_key(envelope, attested_as):
    found = open_envelope(envelope, "one.json")
    assert found.attestation == attested_as(public_half(SIGNER.public_key))
    assert found.key_id == SIGNER.public_key.keyid
    assert found.source == "one.json"


@pytest.mark.parametrize(
    "signer",
    [
        CryptoSigner(ec.generate_private_key(ec.SECP256R1())),
        CryptoSigner(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["ecdsa", "rsa"],
)
def test_the_key_kinds_of_fleets_sign_too(signer, attested_as):
    made = sign_attestation(attested_as(public_half(signer.public_key)), signer)
    assert open_envelope(made, "x").key_id == key_id_of(public_half(signer.public_key))


def test_attack_any_byte_flipped(envelope):
    """Every byte of the file: refused, or (a name that DSSE ignores) the very same numbers."""
    whole = open_envelope(envelope, "x")
    refused = 0
    for place in range(len(envelope)):
        spoilt = bytearray(envelope)
        spoilt[place] ^= 1
        try:
            assert open_envelope(bytes(spoilt), "x") == whole
        except UntrustedError:
            refused += 1
    assert refused > 0.98 * len(envelope)


def test_attack_better_numbers_under_an_old_signature(envelope):
    payload = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    payload["golden"]["cosine_min"] = 1.0
    better = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(UntrustedError, match="the signature is not of these bytes"):
        open_envelope(changed(envelope, payload=better), "x")


def test_attack_another_keys_signature(envelope, attested_as):
    """Signed by one key, naming another: whichever key id the envelope claims."""
    theirs = json.loads(sign_attestation(attested_as(public_half(OTHER.public_key)), OTHER))[
        "signatures"
    ]
    with pytest.raises(UntrustedError, match="is signed by key"):
        open_envelope(changed(envelope, signatures=theirs), "x")
    theirs[0]["keyid"] = SIGNER.public_key.keyid
    with pytest.raises(UntrustedError, match="the signature is not of these bytes"):
        open_envelope(changed(envelope, signatures=theirs), "x")


def test_attack_a_key_that_claims_anothers_id(envelope, attested_as):
    """The id is counted from the key, so nobody's continuity can be taken over."""
    own = json.loads(sign_attestation(attested_as(public_half(OTHER.public_key)), OTHER))
    own["signatures"][0]["keyid"] = SIGNER.public_key.keyid
    with pytest.raises(UntrustedError, match="is signed by key"):
        open_envelope(json.dumps(own).encode(), "x")


def test_attack_the_same_payload_under_another_type(envelope):
    with pytest.raises(UntrustedError, match="payloadType"):
        open_envelope(changed(envelope, payloadType=f"{PAYLOAD_TYPE}x"), "x")


@pytest.mark.parametrize("count", [0, 2])
def test_one_signature_and_no_other_number(envelope, count):
    [one] = json.loads(envelope)["signatures"]
    with pytest.raises(UntrustedError, match="signatures"):
        open_envelope(changed(envelope, signatures=[one] * count), "x")


def test_attack_cut_off_anywhere(envelope):
    for length in range(0, len(envelope) - 2, 7):
        with pytest.raises(UntrustedError, match="no signed attestation"):
            open_envelope(envelope[:length], "x")


def test_attack_too_long(envelope):
    with pytest.raises(UntrustedError, match="more than 65536 bytes"):
        open_envelope(envelope + b" " * MAX_ATTESTATION_BYTES, "x")


@pytest.mark.parametrize(
    "blob",
    [b"", b"null", b"[]", b"\xff\xfe", b"[" * 60_000, b'{"payload": 1}', b"NaN", b"1" * 9999],
)
def test_attack_what_is_no_envelope(blob):
    with pytest.raises(UntrustedError):
        open_envelope(blob, "x")


@pytest.mark.parametrize(
    "key",
    [
        {"keytype": "ed25519", "scheme": "ed25519", "public": "zz"},
        {"keytype": "ed25519", "scheme": "ed25519", "public": "00"},
        {"keytype": "ed25519", "scheme": "rsassa-pss-sha256", "public": "0" * 64},
        {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "public": "no PEM"},
        {"keytype": "rsa", "scheme": "none", "public": "no PEM"},
        {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "public": "\u0000"},
    ],
)
def test_attack_a_key_that_is_none(envelope, attested_as, key):
    """The same refusal as for any signature that does not fit."""
    named = DeviceKey.model_validate(key)
    payload = attested_as(named).to_bytes()
    signature = {**json.loads(envelope)["signatures"][0], "keyid": key_id_of(named)}
    blob = changed(envelope, payload=base64.b64encode(payload).decode(), signatures=[signature])
    with pytest.raises(UntrustedError, match="the signature is not of these bytes"):
        open_envelope(blob, "x")


def test_a_signer_that_is_not_the_named_key_signs_nothing(attested_as):
    with pytest.raises(UsageError, match="does not fit its public half"):
        sign_attestation(attested_as(public_half(SIGNER.public_key)), OTHER)
