"""Calibration images: what the ranges of an int8 file are measured on.

Ranges are true minima and maxima over real images, after the recipe that the device will run. An
average of ranges clips the outliers that an embedding lives on, and noise instead of images gives
ranges of nothing (docs/adr/0005 has the numbers). 100 to 500 images of the training split suffice.
"""

from collections.abc import Iterator

import numpy as np

from compat.errors import UsageError
from compat.preprocess import Floats

FLOAT_CONVOLUTIONS = 2  # the stem and what follows: few wide channels, a third of the int8 error


def check_calibration(images: Floats, size_px: int) -> None:
    """Raises UsageError unless ``images`` are (N >= 1, S, S, 3) float32, finite and not all one."""
    expected = (size_px, size_px, 3)
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        raise UsageError(
            f"calibration images must be (N, {size_px}, {size_px}, 3) with N >= 1, "
            f"got {images.shape}"
        )
    if images.dtype != np.float32:
        raise UsageError(f"calibration images must be normalised float32, got {images.dtype}")
    if not np.isfinite(images).all():
        raise UsageError("calibration images hold NaN or infinity")
    if images.min() == images.max():
        raise UsageError(f"every calibration pixel is {images.min()}: these are no images")


def feeds(images: Floats) -> Iterator[dict[str, Floats]]:
    """(N, S, S, 3) -> N inputs of a graph, (1, S, S, 3) each."""
    return ({"image": image[None]} for image in images)
