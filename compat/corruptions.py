"""What happens to photos on their way: seven corruptions, each at five severities.

Pure functions of an image and a severity: (S, S, 3) uint8 -> the same shape, deterministic. Level 0
is the image as it came. They act on the fitted pixels, after decoding and resizing, so that every
model sees the same spoilt picture whatever its own resolution.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

from compat.preprocess import Pixels

LEVELS = 5
Corruption = Callable[[Pixels, int], Pixels]

_JPEG_QUALITY = (75, 50, 30, 18, 10)
_BLUR_SHARE = (0.006, 0.012, 0.02, 0.03, 0.045)  # radius in sides of the image
_NOISE_STD = (6.0, 12.0, 20.0, 32.0, 48.0)  # of 255
_BRIGHTNESS = (0.85, 0.7, 0.55, 0.4, 0.25)
_ROTATION_DEG = (5.0, 10.0, 20.0, 30.0, 45.0)
_CROP_KEPT = (0.95, 0.88, 0.8, 0.7, 0.6)  # of the side
_GREY_SHARE = (0.2, 0.4, 0.6, 0.8, 1.0)


def _at(levels: tuple[float, ...], level: int) -> float:
    if not 1 <= level <= LEVELS:
        raise ValueError(f"severities are 1 to {LEVELS}, got {level}")
    return levels[level - 1]


def jpeg(pixels: Pixels, level: int) -> Pixels:
    """Saved again as a JPEG of lower quality."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=int(_at(_JPEG_QUALITY, level)))
    with Image.open(out) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def blur(pixels: Pixels, level: int) -> Pixels:
    """Out of focus: Gaussian, its radius in proportion to the image."""
    radius = _at(_BLUR_SHARE, level) * len(pixels)
    image = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, dtype=np.uint8)


def noise(pixels: Pixels, level: int) -> Pixels:
    """Sensor noise: Gaussian, drawn from the pixels themselves, so equal images stay equal."""
    seed = int(pixels.astype(np.uint64).sum()) % 2**32
    drawn = np.random.default_rng(seed).normal(scale=_at(_NOISE_STD, level), size=pixels.shape)
    spoilt: Pixels = np.rint(pixels + drawn).clip(0, 255).astype(np.uint8)
    return spoilt


def brightness(pixels: Pixels, level: int) -> Pixels:
    """Too little light."""
    dark: Pixels = np.rint(pixels * _at(_BRIGHTNESS, level)).astype(np.uint8)
    return dark


def rotation(pixels: Pixels, level: int) -> Pixels:
    """The phone held askew; corners become white, as padding does."""
    image = Image.fromarray(pixels).rotate(
        _at(_ROTATION_DEG, level), Image.Resampling.BICUBIC, fillcolor=(255, 255, 255)
    )
    return np.asarray(image, dtype=np.uint8)


def crop(pixels: Pixels, level: int) -> Pixels:
    """Too close: the middle of the image, as large as the whole."""
    side = len(pixels)
    rim = side * (1 - _at(_CROP_KEPT, level)) / 2
    box = (rim, rim, side - rim, side - rim)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image, dtype=np.uint8)


def grey(pixels: Pixels, level: int) -> Pixels:
    """Colour taken away."""
    share = _at(_GREY_SHARE, level)
    luma = (pixels @ np.array([0.299, 0.587, 0.114]))[..., None]  # (S, S, 1)
    faded: Pixels = np.rint((1 - share) * pixels + share * luma).clip(0, 255).astype(np.uint8)
    return faded


CORRUPTIONS: Mapping[str, Corruption] = {
    "JPEG quality": jpeg,
    "blur": blur,
    "noise": noise,
    "brightness": brightness,
    "rotation": rotation,
    "crop": crop,
    "grey": grey,
}
