"""May this query be compared with this gallery? The decision of the search service, without IO.

The family's signed matrix says so, pair by pair. A family that came out before there were matrices
has none: then the release's own list of artifacts stands for it, and its own gallery model only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel

from compat.errors import QueryRefusedError, SpaceError
from compat.manifest import ReleaseManifest
from compat.matrix import CompatibilityMatrix, Entry
from registry.gallery import GalleryStatus

_CURE = (
    "run kinspace device update; if the device is newer than this service, restart the service on "
    "the newer release"
)


class Refusal(BaseModel):
    """Why there is no answer, and what to do about it."""

    error: str
    cure: str


@dataclass(frozen=True)
class Pairing:
    """One release's space, its family's matrix, and the gallery that is served."""

    release: ReleaseManifest
    matrix: CompatibilityMatrix | None
    generation: str | None  # of the gallery; None: there is no matrix to name it

    @classmethod
    def of(
        cls, gallery: GalleryStatus, release: ReleaseManifest, matrix: CompatibilityMatrix | None
    ) -> Self:
        """Raises SpaceError: no signed document knows the model that embedded the gallery."""
        proven = [artifact.digest for artifact in release.cloud.artifacts]
        generation = matrix.generation_of(gallery.model_digest) if matrix else None
        if generation is None and (matrix is not None or gallery.model_digest not in proven):
            raise SpaceError(
                f"the gallery was embedded by {gallery.model_digest[:12]}, release "
                f"{release.version} proved {', '.join(each[:12] for each in proven)}: build the "
                "gallery again with kinspace gallery build"
            )
        return cls(release, matrix, generation)

    def entry(self, artifact: str) -> Entry | None:
        """What admits the artifact to this gallery, where there is a matrix."""
        if self.matrix is None or self.generation is None:
            return None
        return self.matrix.allows(artifact_digest=artifact, gallery=self.generation)

    def refusal_of(
        self, *, space: str, artifact: str, galleries: Sequence[str] | None
    ) -> Refusal | None:
        """Why a query must not be compared; None when it may.

        Args:
            space: id of the space that its vector is of.
            artifact: digest of what made it.
            galleries: generations that the device's own matrix admits it to; None = it did not say.
        """
        if space != self.release.space.id:
            return Refusal(
                error=f"this gallery is of space {self.release.space.id}, the query of {space}: "
                "their embeddings cannot be compared",
                cure="run kinspace device update, or search a gallery of the query's space",
            )
        if self.matrix is None or self.generation is None:
            return self._unlisted(artifact)
        try:
            self.matrix.check(artifact_digest=artifact, gallery=self.generation)
        except QueryRefusedError as error:
            return Refusal(error=str(error), cure=_CURE)
        if galleries is not None and self.generation not in galleries:
            may = ", ".join(galleries) or "none"
            return Refusal(
                error=f"this gallery is of generation {self.generation}, the device's matrix "
                f"admits its artifact to: {may}",
                cure=_CURE,
            )
        return None

    def _unlisted(self, artifact: str) -> Refusal | None:
        proven = {each.digest for each in self.release.cloud.artifacts}
        if artifact in proven or self.release.find_artifact(artifact):
            return None
        return Refusal(
            error=f"release {self.release.version} of {self.release.family} does not list "
            f"artifact {artifact[:12]}: nobody proved that its embeddings can be compared",
            cure=_CURE,
        )
