"""Faults planted into the evidence for real: leaked labels and pictures, a gallery of two models.

Each function runs the check that should refuse, on the data set as spoilt, and lets it speak.
"""

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from compat.dataset import Dataset, LabelledImage, check_disjoint
from compat.images import decode, read_image
from compat.space import EmbeddingSpace
from edge.embedder import RuntimeEmbedder
from registry.candidate import CandidateFolder
from registry.evidence_check import check_gallery, check_leakage
from registry.gallery import GalleryRow, build
from registry.gallery_build import embed_images, gallery_images, item_id
from registry.judging import embedder_of

SPOILT = 0.03  # of pictures or rows


def label_leak(dataset: Dataset, _: Path) -> tuple[str, ...]:
    """Three in a hundred training images join the test split with their labels."""
    moved = {each.name for each in _drawn(dataset.of("train"))}
    check_disjoint(
        Dataset(
            tuple(
                replace(each, split="test") if each.name in moved else each
                for each in dataset.images
            )
        )
    )
    return ()


def picture_leak(dataset: Dataset, folder: Path) -> tuple[str, ...]:
    """Three in a hundred test pictures, encoded anew, are trained on under other labels."""
    label = dataset.of("train")[0].label
    copies = [
        replace(_copied(each, folder), split="train", label=label)
        for each in _drawn(dataset.of("test"))
    ]
    return check_leakage(Dataset((*dataset.images, *copies)))


def copies_on_both_sides(dataset: Dataset, folder: Path) -> tuple[str, ...]:
    """Three in a hundred queries, encoded anew, stand in the gallery too."""
    drawn = _drawn(dataset.of("test", "query"))
    copies = [replace(_copied(each, folder), role="gallery") for each in drawn]
    return check_leakage(Dataset((*dataset.images, *copies)))


def same_bytes_on_both_sides(dataset: Dataset, _: Path) -> tuple[str, ...]:
    """Three in a hundred queries stand in the gallery too, byte for byte."""
    drawn = _drawn(dataset.of("test", "query"))
    copies = [replace(each, role="gallery", name=f"copy/{each.name}") for each in drawn]
    return check_leakage(Dataset((*dataset.images, *copies)))


def two_model_gallery(
    dataset: Dataset,
    folder: Path,
    cloud: CandidateFolder,
    other: RuntimeEmbedder,
    space: EmbeddingSpace,
    *,
    share: float = SPOILT,
) -> tuple[str, ...]:
    """A gallery under one stamp, a ``share`` of its rows embedded by another model of the space."""
    images, model = gallery_images(dataset), cloud.read()
    rows = embed_images(
        embedder_of(cloud, model, model.artifacts[0], space), [each.path for each in images]
    )
    count = round(share * len(images))
    foreign = np.random.default_rng(3).choice(len(images), count, replace=False)
    if count:
        rows[foreign] = embed_images(other, [images[row].path for row in foreign])
    items = [GalleryRow(item_id(each.name), each.name, each.label) for each in images]
    build(folder, rows, items, space=space, model_digest=model.artifacts[0].digest)
    check_gallery(folder, dataset, cloud, space)
    return ()


def _drawn(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    every = list(images)
    count = round(SPOILT * len(every))
    rows = np.random.default_rng(4).choice(len(every), count, replace=False)
    return [every[row] for row in sorted(rows)]


def _copied(image: LabelledImage, folder: Path) -> LabelledImage:
    """The picture as JPEG at quality 85, three quarters of its size."""
    picture = decode(read_image(image.path), image.name)
    small = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
    blob = io.BytesIO()
    small.save(blob, "JPEG", quality=85)
    path = folder / f"{item_id(image.name)}.jpg"
    path.write_bytes(blob.getvalue())
    return replace(image, path=path, name=f"copy/{image.name}")
