"""A data set decoded once per recipe, so that training never waits for a decoder."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from rich.progress import track

from compat.dataset import UNLABELLED, Dataset, LabelledImage
from compat.errors import DataError, ImageError
from compat.images import decode, read_image
from compat.preprocess import Pixels, Preprocess
from compat.terminal import STDERR

NAMED_AT_MOST = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Decoded:
    """Rows with their pixels."""

    images: tuple[LabelledImage, ...]
    pixels: Pixels  # (N, S, S, 3)

    @property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.images)

    def targets(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return targets_of(self.images)


def classes_of(images: Iterable[LabelledImage]) -> tuple[str, ...]:
    """Labels in order; having none is no class."""
    return tuple(sorted({image.label for image in images} - {UNLABELLED}))


def targets_of(images: Sequence[LabelledImage]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Class numbers in the order of `classes_of`, -1 for an image without a label: (N,)."""
    number = {label: i for i, label in enumerate(classes_of(images))} | {UNLABELLED: -1}
    return np.array([number[image.label] for image in images], dtype=np.int64)


def decode_all(images: Sequence[LabelledImage], recipe: Preprocess, *, title: str) -> Decoded:
    """Run ``recipe`` up to its pixels over ``images``.

    Raises:
        DataError: images cannot be used. It names them and the cure.
    """
    found = _each(images, lambda image, blob: recipe.pixels(blob, str(image.path)), title)
    if refused := [result for result in found if isinstance(result, str)]:
        listed = "\n  ".join(refused[:NAMED_AT_MOST])
        raise DataError(
            f"{len(refused)} of {len(images)} images cannot be used; replace them, or leave such "
            f'images out with on_bad_image = "skip":\n  {listed}'
        )
    pixels = [result for result in found if not isinstance(result, str)]
    return Decoded(tuple(images), np.stack(pixels))


def without_bad(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """The rows whose images can be decoded, and why the others cannot."""
    found = _each(
        dataset.images, lambda image, blob: decode(blob, str(image.path)).size, "check images"
    )
    kept = zip(dataset.images, found, strict=True)
    refused = tuple(result for result in found if isinstance(result, str))
    return Dataset(tuple(image for image, result in kept if not isinstance(result, str))), refused


def _each(
    images: Sequence[LabelledImage], work: Callable[[LabelledImage, bytes], T], title: str
) -> list[T | str]:
    """What ``work`` gives for each image, or why the image cannot be used."""

    def one(image: LabelledImage) -> T | str:
        try:
            return work(image, read_image(image.path))
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shown = track(
            pool.map(one, images), title, total=len(images), transient=True, console=STDERR
        )
        return list(shown)
