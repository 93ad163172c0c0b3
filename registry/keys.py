"""Private keys: a folder of mode 0700 apart from the registry, each key found by a signer URI.

``<role>.pem`` holds an ed25519 key (PKCS#8, encrypted when `PASSPHRASE_ENV` is set), ``keys.json``
says which URI signs for which key id, ``root.json`` is the root that this publisher itself trusts,
``<version>.root.json`` are those before it: a device that slept long walks all of them.
A key that leaves for a KMS or an HSM changes its line in ``keys.json`` and nothing else: every
scheme that securesystemslib knows is read (docs/adr/0003).
"""

import itertools
import json
import os
import re
import sys
from collections.abc import Iterable
from getpass import getpass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
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
from compat.wire import canonical_json
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
            self._write(path.name, _new_pem(_passphrase()))
        public = CryptoSigner(_load_private(path)).public_key
        self.adopt(public, f"{PemSigner.SCHEME}:{path.name}")
        return public

    def create_next(self, name: str) -> SSlibKey:
        """A new key in the place of ``name``; the old file stays, for what it signed.

        Raises as `create`.
        """
        taken = {path.stem for path in self.folder.glob("*.pem")}
        free = (f"{name}-{number}" for number in itertools.count(2))
        return self.create(next(each for each in free if each not in taken))

    def create_encrypted(self, name: str) -> SSlibKey:
        """A key that a person holds: never written without a passphrase.

        Raises:
            UsageError: there is a key of that name, or neither `PASSPHRASE_ENV` nor a terminal.
        """
        path = self.folder / f"{name}.pem"
        if path.exists():
            raise UsageError(f"{path} is a key already: choose another name")
        passphrase = _passphrase() or _asked(f"new passphrase of {path}: ")
        if not passphrase:
            raise UsageError(f"{path} would not be encrypted: set {PASSPHRASE_ENV}")
        self._write(path.name, _new_pem(passphrase))
        public = CryptoSigner(_load_private(path, passphrase)).public_key
        self.adopt(public, f"{PemSigner.SCHEME}:{path.name}")
        return public

    def adopt(self, key: Key, uri: str) -> None:
        """Sign for ``key`` by ``uri`` from now on: a file, a KMS, an HSM. Raises as `create`."""
        uris = self._uris()
        if key.keyid not in uris:
            self._write("keys.json", canonical_json({**uris, key.keyid: uri}))

    def holds(self, keyid: str) -> bool:
        return keyid in self._uris()

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

    @property
    def roots(self) -> dict[int, bytes]:
        """Every root that was trusted here, by version; a folder of an earlier day has the last."""
        names = (path.name.partition(".")[0] for path in self.folder.glob("*.root.json"))
        return {
            int(name): read_bounded(self.folder / f"{name}.root.json", MAX_ROOT_BYTES)
            for name in names
            if name.isdigit()
        }

    def write_root(self, version: int, root: bytes) -> None:
        """Trust ``root`` from now on."""
        self._write(f"{version}.root.json", root)
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


def check_key_name(name: str) -> str:
    """``name``, if it is fit to name a file.

    Raises:
        UsageError: it is not.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise UsageError(f"a key cannot be named {name!r}: use lower-case letters and digits")
    return name


def public_file(key: Key) -> bytes:
    """What others are given of a key: its id and its public part."""
    return canonical_json({"keyid": key.keyid, **key.to_dict()})


def read_public(path: Path) -> Key:
    """The public key in a file that `public_file` made.

    Raises:
        UsageError: it is none. Remedy: ask its holder again.
    """
    try:
        tree = json.loads(read_bounded(path, MAX_KEY_BYTES))
        return Key.from_dict(tree.pop("keyid"), tree)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no public key ({error}): ask its holder again") from error


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE_ENV, "").encode() or None


def _asked(prompt: str) -> bytes | None:
    """A person's answer; None when there is no person."""
    return getpass(prompt).encode() if sys.stdin.isatty() else None


def _new_pem(passphrase: bytes | None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _load_private(path: Path, passphrase: bytes | None = None) -> PrivateKeyTypes:
    pem = read_bounded(path, MAX_KEY_BYTES)
    if b"ENCRYPTED" in pem:
        passphrase = passphrase or _passphrase() or _asked(f"passphrase of {path}: ")
    try:
        return load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"cannot open {path}: {error}. If it is encrypted, set {PASSPHRASE_ENV}"
        ) from error
