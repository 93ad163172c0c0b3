"""The release that our own registry offers, verified like on a device, for the commands beside it.

Whoever runs these commands owns the store, so its first root is trusted unless another is given;
signatures, expiry and digests are checked all the same.
"""

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from compat.errors import UsageError
from compat.files import read_bounded
from compat.manifest import Artifact, ReleaseManifest
from edge.client import RegistryClient
from edge.device import MAX_ARTIFACT_BYTES, STABLE
from edge.trusted import MAX_ROOT_BYTES
from registry.signed_files import stream
from registry.storage.port import Store

FIRST_ROOT = "metadata/1.root.json"


class StoreFetcher(FetcherInterface):
    """Reads a registry from its store as if a server answered."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(f"{self._store}/")
        found = self._store.stat(name)
        if found is None:
            raise DownloadHTTPError(f"there is no {url}", 404)
        return stream(self._store, name, found.size_bytes)


class LocalRelease:
    """What the channel `STABLE` of ``family`` points to now.

    Args:
        registry: the store.
        family: one of its families.
        scratch: an empty folder for verified copies; the caller removes it.
        root: trusted root metadata; None = the first root of ``registry``.

    Raises:
        UsageError: no registry, no such family or nothing published. Remedy: in the message.
        OfflineError: the store does not answer.
        UntrustedError: a file of the registry is forged, damaged or expired.
    """

    def __init__(
        self, registry: Store, family: str, scratch: Path, *, root: Path | None = None
    ) -> None:
        if registry.stat(FIRST_ROOT) is None:
            raise UsageError(f"{registry} is no registry: make one with kinspace keys init")
        trusted = (
            read_bounded(root, MAX_ROOT_BYTES)
            if root
            else registry.get(FIRST_ROOT, max_bytes=MAX_ROOT_BYTES).blob
        )
        self.scratch = scratch
        self._client = RegistryClient(
            str(registry), scratch / "trust", trusted, fetcher=StoreFetcher(registry)
        )
        self._client.refresh()
        version = self._client.channel(family, STABLE).version
        self.manifest: ReleaseManifest = self._client.manifest(family, version)

    @property
    def cloud_artifact(self) -> Artifact:
        """The gallery model that the report measured."""
        return self.manifest.cloud.artifacts[0]

    def fetch_cloud(self) -> Path:
        """A verified copy of the gallery model. Raises as `edge.client.RegistryClient.blob`."""
        return self.fetch(self.cloud_artifact)

    def fetch(self, artifact: Artifact) -> Path:
        """A verified copy of one of its artifacts. Raises as `fetch_cloud`."""
        blob = self._client.blob(self.manifest.family, artifact, max_bytes=MAX_ARTIFACT_BYTES)
        path = self.scratch / artifact.digest
        try:
            path.write_bytes(blob)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
        return path
