"""Private keys: a folder of mode 0700 apart from the registry, each key found by a signer URI.

``<role>.pem`` holds an ed25519 key (PKCS#8, encrypted when `PASSPHRASE_ENV` is set), ``keys.json``
says which URI signs for which key id, ``root.json`` is the root that this publisher itself trusts.
A key that leaves for a KMS or an HSM changes its line in ``keys.json`` and nothing else: every
scheme that securesystemslib knows is read (docs/adr/0003).
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import Error as SigningError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signer,
    SSlibKey,
)

from compat.errors import UsageError
from compat.files import read_bounded, write_atomic
from compat.manifest import canonical_json
from edge.trusted import MAX_ROOT_BYTES

PASSPHRASE_ENV = "KINSPACE_KEY_PASSPHRASE"
MAX_KEY_BYTES = 2**16


class PemSigner(CryptoSigner):
    """A PEM file that may be encrypted: securesystemslib's own ``file2:`` cannot be."""

    SCHEME = "pem"

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "PemSigner":
        if not isinstance(public_key, SSlibKey):
            raise ValueError(f"{priv_key_uri} cannot sign for a key of {type(public_key)}")
        return cls(_load_private(Path(priv_key_uri.partition(":")[2])), public_key)


SIGNER_FOR_URI_SCHEME[PemSigner.SCHEME] = PemSigner


class KeyFolder:
    """The keys of one publisher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str) -> SSlibKey:
        """The public key of ``name``; the private one is made when there is none yet.

        Raises:
            UsageError: the folder or the key cannot be read or written, or the passphrase is wrong.
        """
        path = self.folder / f"{name}.pem"
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, _encryption()
            )
            self._write(path.name, pem)
        public = CryptoSigner(_load_private(path)).public_key
        uris = self._uris()
        if public.keyid not in uris:
            uris[public.keyid] = f"{PemSigner.SCHEME}:{path.name}"
            self._write("keys.json", canonical_json(uris))
        return public

    def signers(self, keys: Iterable[Key]) -> list[Signer]:
        """Signers for those of ``keys`` that this publisher holds.

        Raises:
            UsageError: a key that ``keys.json`` names cannot be opened.
        """
        uris = self._uris()
        return [self._signer(uris[key.keyid], key) for key in keys if key.keyid in uris]

    @property
    def root(self) -> bytes | None:
        """The root metadata that this publisher trusts, and gives to devices; None before init."""
        path = self.folder / "root.json"
        return read_bounded(path, MAX_ROOT_BYTES) if path.exists() else None

    def write_root(self, root: bytes) -> None:
        self._write("root.json", root)

    def _signer(self, uri: str, key: Key) -> Signer:
        scheme, _, rest = uri.partition(":")
        if scheme == PemSigner.SCHEME:  # a relative path starts at the folder, which may be moved
            uri = f"{scheme}:{self.folder / rest}"
        try:
            return Signer.from_priv_key_uri(uri, key)
        except (SigningError, ValueError, OSError, ImportError) as error:
            raise UsageError(f"cannot sign with {uri}: {error}") from error

    def _uris(self) -> dict[str, str]:
        path = self.folder / "keys.json"
        if not path.exists():
            return {}
        try:
            uris: dict[str, str] = json.loads(read_bounded(path, MAX_ROOT_BYTES))
        except ValueError as error:
            raise UsageError(
                f"{path} is not JSON ({error}): restore it from your backup"
            ) from error
        return uris

    def _write(self, name: str, blob: bytes) -> None:
        """Never readable by others: the folder is 0700 before the file is there."""
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            write_atomic(path, blob)
            path.chmod(0o600)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE_ENV, "").encode() or None


def _encryption() -> KeySerializationEncryption:
    passphrase = _passphrase()
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def _load_private(path: Path) -> PrivateKeyTypes:
    pem = read_bounded(path, MAX_KEY_BYTES)
    passphrase = _passphrase() if b"ENCRYPTED" in pem else None
    try:
        return load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"cannot open {path}: {error}. If it is encrypted, set {PASSPHRASE_ENV}"
        ) from error
