"""What of a gallery may this query be compared with? The search service's decision, without IO.

The family's signed matrix says so, pair by pair: artifact and gallery generation. A gallery that is
being embedded again holds rows of several generations; those that the artifact is not admitted to
are left out of its answer. A family that came out before there were matrices has none: then the
release's own list of artifacts stands for it, and its own gallery model only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from compat.errors import QueryRefusedError, SpaceError
from compat.manifest import ReleaseManifest
from compat.matrix import CompatibilityMatrix
from registry.gallery import GalleryStatus, Searchable

_CURE = (
    "run kinspace device update; if the device is newer than this service, restart the service on "
    "the newer release"
)


class Refusal(BaseModel):
    """Why there is no answer, and what to do about it."""

    error: str
    cure: str


@dataclass(frozen=True)
class Admitted:
    """What a query is compared with."""

    searchable: tuple[Searchable, ...]
    generations: tuple[str, ...] | None  # their names; None: there is no matrix to name them
    left_out: int  # rows of other generations


@dataclass(frozen=True)
class Pairing:
    """One release's space, and its family's matrix."""

    release: ReleaseManifest
    matrix: CompatibilityMatrix | None

    def check(self, gallery: GalleryStatus) -> None:
        """Raises SpaceError: no signed document knows a model that embedded the gallery."""
        if not any(self._is_known(each.model_digest) for each in gallery.generations):
            made_by = ", ".join(each.model_digest[:12] for each in gallery.generations)
            proven = ", ".join(each[:12] for each in self._proven())
            raise SpaceError(
                f"the gallery was embedded by {made_by}, release {self.release.version} proved "
                f"{proven}: build the gallery again with kinspace gallery build"
            )

    def generation_of(self, model_digest: str) -> str | None:
        """What the matrix calls the rows that an artifact embedded."""
        return self.matrix.generation_of(model_digest) if self.matrix else None

    def admit(
        self, gallery: GalleryStatus, *, space: str, artifact: str, galleries: Sequence[str] | None
    ) -> Admitted | Refusal:
        """The generations that a query may be compared with, or why there are none.

        Args:
            gallery: what it holds now.
            space: id of the space that the query's vector is of.
            artifact: digest of what made it.
            galleries: generations that the device's own matrix admits it to; None = it did not say.
        """
        if space != self.release.space.id:
            return Refusal(
                error=f"this gallery is of space {self.release.space.id}, the query of {space}: "
                "their embeddings cannot be compared",
                cure="run kinspace device update, or search a gallery of the query's space",
            )
        if self.matrix is None:
            return self._by_release(gallery, artifact)
        searchable, names, refused = [], [], []
        for held in gallery.generations:
            name = self.matrix.generation_of(held.model_digest)
            if name is None:
                refused.append(f"no release made the rows of {held.model_digest[:12]}")
                continue
            try:
                entry = self.matrix.check(artifact_digest=artifact, gallery=name)
            except QueryRefusedError as error:
                refused.append(str(error))
                continue
            if galleries is not None and name not in galleries:
                may = ", ".join(galleries) or "none"
                refused.append(
                    f"this gallery is of generation {name}, the device's matrix admits its "
                    f"artifact to: {may}"
                )
                continue
            searchable.append(Searchable(held.model_digest, entry.score_scale, entry.score_shift))
            names.append(name)
        if not searchable:
            return Refusal(error="; ".join(refused), cure=_CURE)
        return Admitted(tuple(searchable), tuple(sorted(names)), _left_out(gallery, searchable))

    def _by_release(self, gallery: GalleryStatus, artifact: str) -> Admitted | Refusal:
        proven = self._proven()
        if artifact not in proven and self.release.find_artifact(artifact) is None:
            return Refusal(
                error=f"release {self.release.version} of {self.release.family} does not list "
                f"artifact {artifact[:12]}: nobody proved that its embeddings can be compared",
                cure=_CURE,
            )
        found = [
            Searchable(e.model_digest) for e in gallery.generations if e.model_digest in proven
        ]
        if not found:
            return Refusal(
                error=f"no row of this gallery was embedded by release {self.release.version}",
                cure="tell the operator of this service: kinspace gallery build",
            )
        return Admitted(tuple(found), None, _left_out(gallery, found))

    def _is_known(self, model_digest: str) -> bool:
        if self.matrix is None:
            return model_digest in self._proven()
        return self.matrix.generation_of(model_digest) is not None

    def _proven(self) -> tuple[str, ...]:
        return tuple(artifact.digest for artifact in self.release.cloud.artifacts)


def _left_out(gallery: GalleryStatus, searched: Sequence[Searchable]) -> int:
    kept = {each.model_digest for each in searched}
    return sum(each.rows for each in gallery.generations if each.model_digest not in kept)
