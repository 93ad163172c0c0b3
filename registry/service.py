"""The search service: a vector comes from a device, the nearest gallery items go back.

The photo never leaves the device. A query says which space its vector is of and which artifact made
it; another space, or an artifact that the family's signed matrix does not admit to this gallery, is
refused with 409 before anything is compared. Where a family has no matrix yet, the release's own
list of artifacts stands for it (docs/matrix.md). Rows of a generation that the artifact is not
admitted to are left out, and the answer says how many. One service answers for one release, read at
the start; its gallery is followed from commit to commit (docs/gallery.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from fastapi import Body, FastAPI
from fastapi import Query as QueryParameter
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from compat.embedding import Embedder
from compat.errors import UsageError
from compat.manifest import Digest, ReleaseManifest, Version
from compat.matrix import CompatibilityMatrix
from registry.gallery import GalleryHit
from registry.live_gallery import LiveGallery
from registry.metrics import Metrics
from registry.pairing import Admitted, Pairing, Refusal
from registry.refusals import refuse
from registry.registry_app import MAX_BODY_BYTES, create_registry_app
from registry.storage.files import FileStore
from registry.storage.port import Store
from registry.upload_guard import Guard

MAX_VECTORS = 64
MAX_K = 100
MAX_GALLERIES = 1000
IMAGE_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
}

Component = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Vector = Annotated[list[Component], Field(min_length=2, max_length=65536)]


class Query(BaseModel):
    """What a device asks: one ``vector``, or ``vectors``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    space: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="id of the space that the vector is of", examples=["furniture/g1/128/cosine"]
    )
    artifact: Digest = Field(description="sha256 of the artifact that made the vector")
    galleries: list[Version] | None = Field(
        default=None,
        max_length=MAX_GALLERIES,
        description="gallery generations that the device may search; another is refused",
    )
    vector: Vector | None = Field(default=None, description="one embedding, D finite numbers")
    vectors: list[Vector] | None = Field(default=None, min_length=1, max_length=MAX_VECTORS)
    k: int = Field(default=10, ge=1, le=MAX_K, description="how many gallery items to return")

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if (self.vector is None) == (self.vectors is None):
            raise ValueError("give either vector or vectors")
        return self

    @property
    def rows(self) -> list[list[float]]:
        return [self.vector] if self.vector is not None else self.vectors or []


class Hit(BaseModel):
    """One gallery item; ``score`` is the cosine in [-1, 1], higher is closer."""

    id: str
    label: str
    path: str
    score: float = Field(ge=-1, le=1)
    generation: str | None = Field(description="of the row; null: the family has no matrix")


class Results(BaseModel):
    """For each vector its nearest gallery items, best first, ties by id."""

    space: str
    release: str
    galleries: list[str] | None = Field(
        description="gallery generations that were searched; null: the family has no matrix"
    )
    left_out: int = Field(description="rows of generations that the artifact is not admitted to")
    results: list[list[Hit]]


class GenerationStatus(BaseModel):
    """Rows that one cloud artifact embedded."""

    generation: str | None = Field(description="null: no release with a matrix made them")
    model: str = Field(description="sha256 of the artifact")
    rows: int


class SpaceStatus(BaseModel):
    """What this service can be asked."""

    space: str
    release: str
    dim: int
    gallery: int = Field(description="number of gallery items")
    generations: list[GenerationStatus]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "not JSON"},
    408: {"model": Refusal, "description": "the body took too long"},
    409: {"model": Refusal, "description": "another space, or a pair that was never proven"},
    413: {"model": Refusal, "description": f"more than {MAX_BODY_BYTES} bytes"},
    422: {"model": Refusal, "description": "not a query: wrong dimension, NaN, zero, k"},
    429: {"model": Refusal, "description": "too many requests of one client"},
}


def create_app(
    registry: Path | Store,
    gallery_dir: Path,
    release: ReleaseManifest,
    images_dir: Path | None = None,
    *,
    matrix: CompatibilityMatrix | None = None,
    photo_embedder: Embedder | None = None,
    guard: Guard | None = None,
    per_second: float | None = None,
) -> FastAPI:
    """The HTTP application for one release.

    Args:
        registry: folder or store whose signed files are served under ``/registry/``.
        gallery_dir: holds the gallery of the release's space.
        release: the verified manifest.
        images_dir: where the paths of gallery items start; None serves no images.
        matrix: the family's, verified; None where it has none.
        photo_embedder: the cloud model, to answer for photos too; None: no photo is taken.
        guard: who may put files of the registry; None = nobody.
        per_second: requests that one client may send; None = as many as it can.

    Raises:
        SpaceError: the gallery is of another space or model. Remedy: build it with this release.
        UsageError, CorruptError: see `registry.gallery.Gallery.open`.
    """
    gallery = LiveGallery(gallery_dir, release.space.id)
    pairing = Pairing(release, matrix)
    pairing.check(gallery.now().status)
    metrics = Metrics()
    metrics.gallery_rows.set_function(lambda: gallery.now().status.rows)
    app = create_registry_app(
        FileStore(registry) if isinstance(registry, Path) else registry,
        metrics,
        title="kinspace search",
        version=release.version,
        guard=guard,
        per_second=per_second,
    )
    app.description = f"Send an embedding, get the nearest gallery items. {app.description}"
    _add_search(app, gallery, pairing)
    _add_status(app, gallery, pairing)
    if photo_embedder is not None:
        _add_photos(app, gallery, pairing, photo_embedder)
    if images_dir is not None:
        _add_images(app, gallery, images_dir.resolve())
    return app


def _add_search(app: FastAPI, live: LiveGallery, pairing: Pairing) -> None:
    @app.post("/v1/search", response_model=Results, responses=_REFUSALS, tags=["search"])
    def search(query: Query) -> Results | Response:
        """The nearest gallery items of each vector, by exact cosine."""
        gallery = live.now()  # one version for the whole answer
        admitted = pairing.admit(
            gallery.status, space=query.space, artifact=query.artifact, galleries=query.galleries
        )
        if isinstance(admitted, Refusal):
            return refuse(409, admitted)
        if wrong := {len(row) for row in query.rows} - {gallery.dim}:
            error = f"a vector has {min(wrong)} numbers, space {query.space} has {gallery.dim}"
            return refuse(422, Refusal(error=error, cure="send the embedding as the model made it"))
        vectors = np.asarray(query.rows, dtype=np.float64)
        try:
            found = gallery.search(vectors, query.k, among=admitted.searchable)
        except UsageError as error:
            return refuse(422, Refusal(error=str(error), cure="embed the photo again"))
        return _results(found, admitted, pairing)


def _add_photos(app: FastAPI, live: LiveGallery, pairing: Pairing, embedder: Embedder) -> None:
    release = pairing.release

    @app.post("/v1/search-photo", response_model=Results, responses=_REFUSALS, tags=["search"])
    def search_photo(
        photo: Annotated[bytes, Body(media_type="application/octet-stream")],
        k: Annotated[int, QueryParameter(ge=1, le=MAX_K)] = 10,
    ) -> Results | Response:
        """The nearest gallery items of a photo, embedded here and not kept: the last rung."""
        gallery = live.now()
        admitted = pairing.admit(
            gallery.status,
            space=release.space.id,
            artifact=release.cloud.artifacts[0].digest,
            galleries=None,
        )
        if isinstance(admitted, Refusal):
            return refuse(409, admitted)
        try:
            tensor = embedder.preprocess.tensor(photo, "the photo")  # (S, S, 3)
            found = gallery.search(embedder.embed(tensor[None]), k, among=admitted.searchable)
        except UsageError as error:
            return refuse(422, Refusal(error=str(error), cure="send a JPEG, PNG or WebP photo"))
        return _results(found, admitted, pairing)


def _results(
    found: Sequence[Sequence[GalleryHit]], admitted: Admitted, pairing: Pairing
) -> Results:
    return Results(
        space=pairing.release.space.id,
        release=pairing.release.version,
        galleries=None if admitted.generations is None else list(admitted.generations),
        left_out=admitted.left_out,
        results=[[_hit(hit, pairing) for hit in hits] for hits in found],
    )


def _add_status(app: FastAPI, live: LiveGallery, pairing: Pairing) -> None:
    release = pairing.release

    @app.get("/v1/space", tags=["status"])
    def space() -> SpaceStatus:
        """Which space, release and gallery answer here."""
        gallery = live.now()
        return SpaceStatus(
            space=release.space.id,
            release=release.version,
            dim=gallery.dim,
            gallery=gallery.status.rows,
            generations=[
                GenerationStatus(
                    generation=pairing.generation_of(each.model_digest),
                    model=each.model_digest,
                    rows=each.rows,
                )
                for each in gallery.status.generations
            ],
        )


def _add_images(app: FastAPI, live: LiveGallery, root: Path) -> None:
    @app.get(
        "/v1/images/{item_id}",
        response_class=FileResponse,
        responses={200: {"content": {"image/*": {}}}, 404: {"model": Refusal}},
        tags=["search"],
    )
    def image(item_id: str) -> Response:
        """The image of a gallery item; its path comes from the gallery, never from the request."""
        row = live.now().row(item_id)
        path = (root / row.path).resolve() if row else root
        media_type = IMAGE_TYPES.get(path.suffix.lower())
        if media_type is None or not path.is_relative_to(root) or not path.is_file():
            error = "there is no image of that gallery item"
            return refuse(404, Refusal(error=error, cure="use an id that /v1/search returned"))
        return FileResponse(
            path, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"}
        )


def _hit(hit: GalleryHit, pairing: Pairing) -> Hit:
    return Hit(
        id=hit.id,
        label=hit.label,
        path=hit.path,
        score=hit.score,
        generation=pairing.generation_of(hit.model_digest),
    )
