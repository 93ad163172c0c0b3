"""The release that our own registry offers, verified like on a device, for the commands beside it.

Whoever runs these commands owns the store, so its first root is trusted unless another is given;
signatures, expiry and digests are checked all the same.
"""

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from compat.embedding import Embedder
from compat.errors import UsageError
from compat.files import read_bounded
from compat.ladder import Ladder
from compat.manifest import Artifact, Model, ReleaseManifest
from compat.matrix import CompatibilityMatrix
from edge.client import RegistryClient
from edge.device import MAX_ARTIFACT_BYTES, STABLE
from edge.embedder import open_embedder
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
        size_bytes = self._store.size(name)
        if size_bytes is None:
            raise DownloadHTTPError(f"there is no {url}", 404)
        return stream(self._store, name, 0, size_bytes)


def first_root(registry: Store, root: Path | None) -> bytes:
    """The root that whoever owns ``registry`` trusts: the file ``root``, or the first one there.

    Raises:
        UsageError: there is none. Remedy: in the message.
    """
    if registry.stat(FIRST_ROOT) is None:
        raise UsageError(f"{registry} is no registry: make one with kinspace keys init")
    if root:
        return read_bounded(root, MAX_ROOT_BYTES)
    return registry.get(FIRST_ROOT, max_bytes=MAX_ROOT_BYTES).blob


class LocalRelease:
    """What the channel `STABLE` of ``family`` points to now.

    Args:
        registry: the store.
        family: one of its families.
        scratch: an empty folder for verified copies; the caller removes it.
        root: trusted root metadata; None = the first root of ``registry``.
        version: None = the one that the channel points to.

    Raises:
        UsageError: no registry, no such family or nothing published. Remedy: in the message.
        OfflineError: the store does not answer.
        UntrustedError: a file of the registry is forged, damaged or expired.
    """

    def __init__(
        self,
        registry: Store,
        family: str,
        scratch: Path,
        *,
        root: Path | None = None,
        version: str | None = None,
    ) -> None:
        trusted = first_root(registry, root)
        self.scratch = scratch
        self._client = RegistryClient(
            str(registry), scratch / "trust", trusted, fetcher=StoreFetcher(registry)
        )
        self._client.refresh()
        wanted = version or self._client.channel(family, STABLE).version
        self.manifest: ReleaseManifest = self._client.manifest(family, wanted)
        self.matrix: CompatibilityMatrix | None = self._client.matrix(family)

    def ladder(self, member: str | None, target_space: str) -> Ladder:
        """From a member (None: the first) to galleries of another space.

        Raises:
            UsageError: nobody signed one. Remedy: in the message.
        """
        name = member or self.manifest.members[0].name
        found = next((each for each in self.manifest.members if each.name == name), None)
        ladder = None
        if found is not None:
            digest = found.artifacts[0].digest
            ladder = self._client.ladder(
                self.manifest.space, name, artifact=digest, target=target_space
            )
        if ladder is None:
            raise UsageError(
                f"release {self.manifest.version} has no ladder from {name} to {target_space}: "
                "kinspace ladder publish"
            )
        return ladder

    @property
    def cloud_artifact(self) -> Artifact:
        """The gallery model that the report measured."""
        return self.manifest.cloud.artifacts[0]

    def fetch_cloud(self) -> Path:
        """A verified copy of the gallery model. Raises as `edge.client.RegistryClient.blob`."""
        return self.fetch(self.cloud_artifact)

    def open_cloud(self) -> Embedder:
        """The gallery model, ready to run. Raises as `fetch`."""
        return self.open(self.manifest.cloud, self.cloud_artifact)

    def open(self, model: Model, artifact: Artifact) -> Embedder:
        """One artifact of a model of this release, ready to run. Raises as `fetch`."""
        dim = self.manifest.space.dim
        return open_embedder(self.fetch(artifact), artifact.runtime, model.preprocess, dim)

    def fetch(self, artifact: Artifact) -> Path:
        """A verified copy of an artifact. Raises as `edge.client.RegistryClient.blob`."""
        blob = self._client.blob(self.manifest.family, artifact, max_bytes=MAX_ARTIFACT_BYTES)
        path = self.scratch / artifact.digest
        try:
            path.write_bytes(blob)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
        return path
