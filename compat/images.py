"""Image bytes -> upright 8-bit RGB, or a refusal that names the image and the cure.

Handled: EXIF orientation, palettes, alpha (over white), grey, CMYK, 16-bit grey (scaled, not
clipped), animations (first frame), up to `MAX_PIXELS`. Refused by name: empty, truncated,
unreadable, not an image, too many pixels, too long a side, too many bytes. Damaged metadata is not
the pixels' fault and is passed over.
"""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from compat.errors import ImageError, UsageError
from compat.files import read_bounded

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 100_000_000
MAX_SIDE_PX = 16_384  # an oblong image is padded to a square of this side at most, 0.8 GB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


def read_image(path: Path) -> bytes:
    """The bytes of an image file, at most `MAX_BYTES`. Raises ImageError."""
    try:
        return read_bounded(path, MAX_BYTES)
    except UsageError as error:
        raise ImageError(str(error)) from error


def decode(blob: bytes, name: str) -> Image.Image:
    """Image bytes -> upright RGB image (H, W, 3), 8 bits a channel.

    Args:
        blob: an encoded image of one of `FORMATS`.
        name: what to call it in an error, usually its path.

    Raises:
        ImageError: it cannot be used. Remedy: as the message says.
    """
    if not blob:
        raise ImageError(f"{name} is empty (0 bytes): replace or remove it")
    if len(blob) > MAX_BYTES:
        raise ImageError(f"{name} holds more than {MAX_BYTES >> 20} MiB: re-encode it smaller")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below, metadata is not used
            with Image.open(io.BytesIO(blob), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(
                        f"{name} has {image.width} x {image.height} pixels, more than "
                        f"{MAX_PIXELS // 10**6} million: scale it down"
                    )
                if max(image.size) > MAX_SIDE_PX:
                    raise ImageError(
                        f"{name} is {image.width} x {image.height} pixels, a side of more than "
                        f"{MAX_SIDE_PX}: scale it down or crop it"
                    )
                image.load()
                return _rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of {', '.join(FORMATS)}: convert it") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels: scale it down") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ImageError(
            f"{name} is damaged or truncated ({error}): replace or remove it"
        ) from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Undo the camera's turn; damaged metadata leaves the pixels as they lie.

    `ImageOps.exif_transpose` also writes the metadata anew, which fails where other tags are bad.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, OSError, struct.error):
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB, alpha over white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.int64)  # (H, W), 0..65535
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")
