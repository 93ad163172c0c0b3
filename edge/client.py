"""Ask a registry for channels, releases and blobs, and believe only what is signed.

`edge.trusted` decides what is signed; here stands what a registry's names mean, and that what was
asked for is what was got. A registry is an http(s) URL or a local folder: the same signed files,
the same client, the same bounds.
"""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from tuf.ngclient import FetcherInterface

from compat.delta_index import MAX_INDEX_BYTES, DeltaIndex, PackedFile, delta_index_target
from compat.errors import CorruptError, UntrustedError, UsageError, WithheldError
from compat.files import digest_of
from compat.ladder import MAX_LADDER_BYTES, Ladder, ladder_target
from compat.manifest import (
    MAX_MANIFEST_BYTES,
    Blob,
    Channel,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.matrix import MAX_MATRIX_BYTES, CompatibilityMatrix, matrix_target
from compat.space import EmbeddingSpace
from edge.trusted import TrustedFiles

MAX_CHANNEL_BYTES = 2**16


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
        self._files = TrustedFiles(
            f"{self.registry}/metadata/",
            f"{self.registry}/targets/",
            cache,
            root,
            fetcher=fetcher,
        )

    def refresh(self, *, not_before: datetime | None = None) -> None:
        """Fetch and verify what the registry says now. Args, raises: `TrustedFiles.refresh`."""
        self._files.refresh(not_before=not_before)

    def channel(self, family: str, name: str) -> Channel:
        """Where the channel ``name`` of ``family`` points.

        Raises:
            UsageError: the registry, trusted, has no such family or channel.
            OfflineError, UntrustedError: see `refresh`.
        """
        blob = self._files.read(channel_target(family, name), MAX_CHANNEL_BYTES)
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
        blob = self._files.read(manifest_target(family, version), MAX_MANIFEST_BYTES)
        if blob is None:
            raise UntrustedError(f"nobody signed for a release {version} of {family}")
        manifest = ReleaseManifest.from_bytes(blob)
        if (manifest.family, manifest.version) != (family, version):
            raise UntrustedError(
                f"release {version} of {family} says that it is {manifest.version} of "
                f"{manifest.family}"
            )
        return manifest

    def matrix(self, family: str) -> CompatibilityMatrix | None:
        """Which artifacts may query which galleries; None where no release came with a matrix yet.

        Raises:
            OfflineError, UntrustedError: see `refresh`.
        """
        blob = self._files.read(matrix_target(family), MAX_MATRIX_BYTES)
        return None if blob is None else CompatibilityMatrix.from_bytes(blob, family=family)

    def ladder(
        self, source: EmbeddingSpace, member: str, *, artifact: str, target: str
    ) -> Ladder | None:
        """What the artifact of ``member`` may do before a gallery of ``target``; None: nothing.

        Raises:
            OfflineError, UntrustedError: see `refresh`.
        """
        blob = self._files.read(ladder_target(source, member, target), MAX_LADDER_BYTES)
        if blob is None:
            return None
        return Ladder.from_bytes(blob, artifact=artifact, source=source.id, target=target)

    def offers(self, family: str, version: str) -> tuple[PackedFile, ...]:
        """The packed files on the way to ``version``: none when none are signed, or to be believed.

        Raises:
            OfflineError: nobody answered. Keep what runs, try later.
        """
        try:
            blob = self._files.read(delta_index_target(family, version), MAX_INDEX_BYTES)
            index = DeltaIndex.from_bytes(blob) if blob else None
        except (UntrustedError, WithheldError):  # whoever spoils it costs bytes, nothing else
            return ()
        if index is None or (index.family, index.version) != (family, version):
            return ()
        return index.offers

    def forget_parts(self, *, keep: Collection[str] = ()) -> None:
        """Remove what cut-off downloads left, except of the digests ``keep``."""
        self._files.forget_parts(keep=keep)

    def blob(self, family: str, blob: Blob, *, max_bytes: int) -> bytes:
        """The bytes that ``blob`` of a release names; a download that was cut off goes on.

        Raises:
            CorruptError: they are others. Keep what runs, alert.
            OfflineError, UntrustedError: see `refresh`.
        """
        if blob.size_bytes > max_bytes:
            raise UntrustedError(
                f"blob {blob.digest[:12]} has {blob.size_bytes} bytes, more than {max_bytes}"
            )
        name = blob_target(family, blob.digest)
        found = self._files.read(name, blob.size_bytes, part=blob.digest)
        if found is None:
            raise UntrustedError(f"nobody signed for blob {blob.digest[:12]} of {family}")
        if len(found) != blob.size_bytes or digest_of(found) != blob.digest:
            raise CorruptError(f"the bytes signed as blob {blob.digest[:12]} are others")
        return found
