"""The key that a device signs its attestations with: its own, made once, or one that a fleet gives.

``attest_key`` (PKCS#8 PEM, mode 0600) never leaves the home; ``attest_key.pub`` beside it is what
a fleet collects to know this device again.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import Error as SigningError
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from compat.errors import UsageError
from compat.files import read_bounded, write_atomic

MAX_KEY_BYTES = 2**14


def device_signer(home: Path) -> CryptoSigner:
    """The device's own ed25519 key; made when there is none yet. One caller at a time.

    Raises:
        UsageError: it cannot be made or read, is damaged, or others may read it.
    """
    path = home / "attest_key"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        write_atomic(path, pem, mode=0o600)
    elif path.stat().st_mode & 0o077:
        raise UsageError(f"others may read {path}: chmod 600 it, or remove it for a new key")
    try:
        private = load_pem_private_key(read_bounded(path, MAX_KEY_BYTES), None)
        signer = CryptoSigner(private)
    except (ValueError, TypeError, UnsupportedAlgorithm, SigningError) as error:
        raise UsageError(
            f"{path} is damaged: remove it, and the device counts as another one from then on"
        ) from error
    if not (public := home / "attest_key.pub").exists():
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_atomic(public, pem)
    return signer


def fleet_signer(uri: str, public: SSlibKey) -> Signer:
    """A key that securesystemslib reaches by URI: a file, an HSM, a KMS.

    Raises:
        UsageError: there is none, it is another's, or its package is not installed.
    """
    try:
        return Signer.from_priv_key_uri(uri, public)
    except (SigningError, ValueError, OSError, ImportError, UnsupportedAlgorithm) as error:
        raise UsageError(f"cannot sign with {uri}: {error}") from error


def read_public_key(path: Path) -> SSlibKey:
    """A public key in PEM.

    Raises:
        UsageError: it is missing or is none.
    """
    try:
        return SSlibKey.from_crypto(load_pem_public_key(read_bounded(path, MAX_KEY_BYTES)))
    except (ValueError, TypeError, UnsupportedAlgorithm, SigningError) as error:
        raise UsageError(f"{path} is no public key in PEM: {error}") from error
