"""The release that a local registry offers, verified like on a device, for the commands beside it.

Whoever runs these commands owns the folder, so its first root is trusted unless another is given;
signatures, expiry and digests are checked all the same.
"""

from pathlib import Path

from compat.errors import UsageError
from compat.files import read_bounded
from compat.manifest import Artifact, ReleaseManifest
from edge.client import RegistryClient
from edge.device import MAX_ARTIFACT_BYTES, STABLE
from edge.trusted import MAX_ROOT_BYTES

FIRST_ROOT = Path("metadata") / "1.root.json"


class LocalRelease:
    """What the channel `STABLE` of ``family`` points to now.

    Args:
        registry: the folder.
        family: one of its families.
        scratch: an empty folder for verified copies; the caller removes it.
        root: trusted root metadata; None = the first root of ``registry``.

    Raises:
        UsageError: no registry, no such family or nothing published. Remedy: in the message.
        UntrustedError: a file of the registry is forged, damaged or expired.
    """

    def __init__(
        self, registry: Path, family: str, scratch: Path, *, root: Path | None = None
    ) -> None:
        if not (registry / FIRST_ROOT).is_file():
            raise UsageError(f"{registry} is no registry: make one with kinspace keys init")
        trusted = read_bounded(root or registry / FIRST_ROOT, MAX_ROOT_BYTES)
        self._scratch = scratch
        self._client = RegistryClient(str(registry.resolve()), scratch / "trust", trusted)
        self._client.refresh()
        version = self._client.channel(family, STABLE).version
        self.manifest: ReleaseManifest = self._client.manifest(family, version)

    @property
    def cloud_artifact(self) -> Artifact:
        """The gallery model that the report measured."""
        return self.manifest.cloud.artifacts[0]

    def fetch_cloud(self) -> Path:
        """A verified copy of the gallery model. Raises as `edge.client.RegistryClient.blob`."""
        artifact = self.cloud_artifact
        blob = self._client.blob(self.manifest.family, artifact, max_bytes=MAX_ARTIFACT_BYTES)
        path = self._scratch / artifact.digest
        try:
            path.write_bytes(blob)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
        return path
