"""Fill a gallery: embed the gallery images of a data set with the release's cloud model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compat.dataset import Dataset, LabelledImage
from compat.embedding import Embedder
from compat.errors import DataError, SpaceError
from compat.files import digest_of
from compat.images import read_image
from compat.preprocess import Floats
from compat.space import EmbeddingSpace
from registry.gallery import GalleryRow, GalleryStatus, Progress, build


def embed_images(
    embedder: Embedder,
    paths: Sequence[Path],
    *,
    batch: int = 32,
    progress: Progress | None = None,
) -> Floats:
    """Image files -> (N, D) embeddings in their order; memory holds one batch of pixels.

    Raises:
        ImageError: a file cannot be used. Remedy: the message names it and the cure.
    """
    parts: list[Floats] = [np.zeros((0, embedder.dim), dtype=np.float32)]
    for chunk in _chunks(paths, batch):
        tensors = [embedder.preprocess.tensor(read_image(path), str(path)) for path in chunk]
        parts.append(embedder.embed(np.stack(tensors)))  # (n, D)
        if progress is not None:
            progress(sum(map(len, parts)), len(paths))
    return np.concatenate(parts)


def gallery_images(dataset: Dataset) -> tuple[LabelledImage, ...]:
    """Every gallery image, whatever its split. Raises DataError when there is none."""
    images = tuple(image for image in dataset.images if image.role == "gallery")
    if not images:
        raise DataError("the data set has no image of role 'gallery': add some to its manifest")
    return images


def build_from_dataset(
    folder: Path,
    dataset: Dataset,
    embedder: Embedder,
    *,
    space: EmbeddingSpace,
    model_digest: str,
    progress: Progress | None = None,
) -> GalleryStatus:
    """Embed the gallery images of ``dataset`` and write them as the gallery of ``space``.

    An item's id is made of its path within the set, so it is the same after a rebuild.

    Raises:
        SpaceError: the embedder is not of this space. Remedy: use the release's cloud artifact.
        ImageError, DataError, UsageError: nothing was written; the message has the cure.
    """
    if embedder.dim != space.dim:
        raise SpaceError(
            f"the gallery model gives {embedder.dim} dimensions, space {space.id} has {space.dim}: "
            "embed with the cloud artifact of a release of that space"
        )
    images = gallery_images(dataset)
    embeddings = embed_images(embedder, [each.path for each in images], progress=progress)
    rows = [GalleryRow(item_id(each.name), each.name, each.label) for each in images]
    return build(folder, embeddings, rows, space=space, model_digest=model_digest)


def item_id(name: str) -> str:
    """The id of the image that a data set calls ``name``."""
    return digest_of(name.encode())[:16]


def _chunks(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]
