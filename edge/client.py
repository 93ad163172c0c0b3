"""Ask a registry and believe only what is signed: the trust is TUF's (docs/adr/0003), not ours.

Order: `RegistryClient.refresh`, then the questions; a question before the first refresh is
RuntimeError: the caller's mistake. No answer is OfflineError, an answer that must not be believed
UntrustedError; in both cases nothing that runs has been touched. A registry is an http(s) URL or a
local folder; the same signed files, the same client, the same bounds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient import FetcherInterface, Updater
from urllib3.exceptions import HTTPError

from compat.errors import CorruptError, OfflineError, UntrustedError, UsageError
from compat.files import digest_of, read_bounded
from compat.manifest import (
    MAX_MANIFEST_BYTES,
    Blob,
    Channel,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)

MAX_ROOT_BYTES = 512_000  # as tuf.ngclient bounds the roots that it fetches
MAX_CHANNEL_BYTES = 2**16
CHUNK_BYTES = 2**18


class FolderFetcher(FetcherInterface):
    """Reads a registry from a local folder as if a server answered."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url)
        if not path.is_file():
            raise DownloadHTTPError(f"there is no {path}", 404)
        return _chunks(path)


class RegistryClient:
    """One device's, or one server's, view of one registry.

    Args:
        registry: http(s) URL or local folder.
        cache: where verified metadata is kept; it is what makes a rollback noticed. One client at a
            time may use it.
        root: the trusted root metadata. It came by a channel of trust, not from the registry.
        fetcher: reads the files; None = by HTTP or from the folder, as ``registry`` says.

    Raises:
        UsageError: ``registry`` is neither, ``root`` is no root, or ``cache`` cannot be written.
    """

    def __init__(
        self, registry: str, cache: Path, root: bytes, *, fetcher: FetcherInterface | None = None
    ) -> None:
        self.registry = registry.rstrip("/")
        self._cache = cache
        self._root = root
        self._fetcher = fetcher
        self._updater: Updater | None = None
        try:
            self._connected()
        except RepositoryError as error:
            raise UsageError(
                f"the trusted root is no signed root metadata ({error}): give the device the "
                "root.json that the registry's publisher handed out"
            ) from error

    def refresh(self) -> None:
        """Fetch and verify what the registry says now.

        Raises:
            OfflineError: nobody answered. Keep what runs, try later.
            UntrustedError: the answer is forged, expired or older than one seen before. Keep what
                runs, alert.
        """
        updater = self._connected()
        with self._border():
            updater.refresh()
        self._updater = updater

    def channel(self, family: str, name: str) -> Channel:
        """Where the channel ``name`` of ``family`` points.

        Raises:
            UsageError: the registry, trusted, has no such family or channel.
            OfflineError, UntrustedError: see `refresh`.
        """
        blob = self._target(channel_target(family, name), MAX_CHANNEL_BYTES)
        if blob is None:
            raise UsageError(f"{self.registry} has no channel {name} of a family {family}")
        channel = Channel.from_bytes(blob)
        if (channel.family, channel.channel) != (family, name):
            raise UntrustedError(f"the channel {name} of {family} says that it is another")
        return channel

    def manifest(self, family: str, version: str) -> ReleaseManifest:
        """The release ``version`` of ``family``.

        Raises:
            OfflineError, UntrustedError: see `refresh`.
        """
        blob = self._target(manifest_target(family, version), MAX_MANIFEST_BYTES)
        if blob is None:
            raise UntrustedError(f"nobody signed for a release {version} of {family}")
        manifest = ReleaseManifest.from_bytes(blob)
        if (manifest.family, manifest.version) != (family, version):
            raise UntrustedError(
                f"release {version} of {family} says that it is {manifest.version} of "
                f"{manifest.family}"
            )
        return manifest

    def blob(self, family: str, blob: Blob, *, max_bytes: int) -> bytes:
        """The bytes that ``blob`` of a release names.

        Raises:
            CorruptError: they are others. Keep what runs, alert.
            OfflineError, UntrustedError: see `refresh`.
        """
        if blob.size_bytes > max_bytes:
            raise UntrustedError(
                f"blob {blob.digest[:12]} has {blob.size_bytes} bytes, more than {max_bytes}"
            )
        found = self._target(blob_target(family, blob.digest), blob.size_bytes)
        if found is None:
            raise UntrustedError(f"nobody signed for blob {blob.digest[:12]} of {family}")
        if len(found) != blob.size_bytes or digest_of(found) != blob.digest:
            raise CorruptError(f"the bytes signed as blob {blob.digest[:12]} are others")
        return found

    def _target(self, name: str, max_bytes: int) -> bytes | None:
        """Verified bytes of a target; None when nobody signs for it."""
        if self._updater is None:
            raise RuntimeError("refresh before asking")
        part = self._cache / "target.part"
        with self._border():
            target = self._updater.get_targetinfo(name)
            if target is None:
                return None
            if target.length > max_bytes:
                raise UntrustedError(f"{name} has {target.length} bytes, expected {max_bytes}")
            try:
                self._updater.download_target(target, str(part))
                return read_bounded(part, max_bytes)
            finally:
                part.unlink(missing_ok=True)

    def _connected(self) -> Updater:
        """A fresh updater: it can be refreshed once in its life."""
        with self._writing():
            self._cache.mkdir(parents=True, exist_ok=True)
            return Updater(
                metadata_dir=str(self._cache),
                metadata_base_url=f"{self.registry}/metadata/",
                target_base_url=f"{self.registry}/targets/",
                fetcher=self._fetcher or _fetcher(self.registry),
                bootstrap=self._root,
            )

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Foreign exceptions end here."""
        try:
            with self._writing():
                yield
        except DownloadLengthMismatchError as error:  # a DownloadError, but somebody did answer
            raise UntrustedError(f"{self.registry} sent more than was signed: {error}") from error
        except (DownloadError, HTTPError) as error:
            cause = error.__cause__ or error
            raise OfflineError(f"no answer from {self.registry} ({cause}): try later") from error
        except ExpiredMetadataError as error:
            raise UntrustedError(
                f"{self.registry} is out of date ({error}): somebody holds updates back, its "
                "publisher must run kinspace keys refresh, or this clock is wrong"
            ) from error
        except RepositoryError as error:
            raise UntrustedError(
                f"{self.registry} must not be believed ({type(error).__name__}: {error})"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(f"cannot write {self._cache}: {error.strerror or error}") from error


def _fetcher(registry: str) -> FetcherInterface | None:
    """None = tuf's own, over HTTP."""
    scheme, separator, _ = registry.partition("://")
    if not separator:
        return FolderFetcher()
    if scheme not in ("http", "https"):
        raise UsageError(f"{registry} is neither an http(s) URL nor a local folder")
    return None


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DownloadError(f"cannot read {path}: {error.strerror}") from error
