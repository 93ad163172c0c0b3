"""Recipes for the two kinds of rendered view: clean *studio* and phone-like *wild*.

Every random choice comes from (seed, label, view), so one view can be made again alone.
A float picture is (H, W, 3) in [0, 1].
"""

import hashlib
import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.data.mesh import Floats
from benchmarks.data.renderer import Camera, Drawing, Light

STUDIO_QUALITY = 90  # WebP
DARK_PAGE = 0.4  # grey level behind the few objects that are all white, as on their own icons
STUDIO_LIGHT_TURN_DEG = -35.0  # the key light stands left of the camera


def view_rng(seed: int, label: str, view: str) -> np.random.Generator:
    """The view's own stream of random numbers."""
    digest = hashlib.sha256(f"{seed}/{label}/{view}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _toward(azimuth_deg: float, elevation_deg: float) -> tuple[float, float, float]:
    """Unit direction from the object: y up, azimuth 0 to +z."""
    azimuth, elevation = np.deg2rad([azimuth_deg, elevation_deg])
    level = float(np.cos(elevation))
    side, front = float(np.sin(azimuth)) * level, float(np.cos(azimuth)) * level
    return (side, float(np.sin(elevation)), front)


def studio_view(drawing: Drawing, rng: np.random.Generator, number: int, size_px: int) -> bytes:
    """View ``number`` of 8 around the object on white, as WebP; lying things from higher up."""
    azimuth = 45.0 * number + float(rng.uniform(-8, 8))
    low, high = (32, 52) if drawing.is_lying else (10, 32)
    camera = Camera(azimuth, float(rng.uniform(low, high)), lens_deg=30, fill=0.9)
    light = Light(
        key_direction=_toward(azimuth + STUDIO_LIGHT_TURN_DEG, 45),
        key_colour=(0.55, 0.55, 0.55),
        sky_colour=(0.74, 0.74, 0.74),
        ground_colour=(0.46, 0.46, 0.46),
    )
    drawn = drawing.render(camera, light, size_px)  # (S, S, 4)
    page = DARK_PAGE if is_white(drawn) else 1.0
    picture = drawn[..., :3] + page * (1 - drawn[..., 3:])
    return encode(to_image(picture), "WEBP", STUDIO_QUALITY)


def is_white(drawn: Floats) -> bool:
    """True when a drawn object (H, W, 4) could not be told from a white page: road markings."""
    covered = drawn[..., 3] > 0.2
    if not covered.any():
        return False
    colour = drawn[covered, :3] / drawn[covered, 3:]  # (P, 3)
    return bool((1 - colour).clip(0, 1).mean() < 0.02)


def wild_view(
    drawing: Drawing,
    rng: np.random.Generator,
    size_px: int,
    open_background: Callable[[np.random.Generator], Image.Image],
) -> bytes:
    """The object as a careless phone might see it, as the JPEG that resulted.

    Any azimuth, elevation 3 to 54 degrees, roll, lens, light, shift; then background, colour cast,
    blur, noise, JPEG quality 35 to 92.
    """
    fill = float(rng.uniform(0.55, 0.95))
    loose = (1 - fill) / 2 + 0.06  # up to 6 % of the side may leave the picture
    camera = Camera(
        azimuth_deg=float(rng.uniform(0, 360)),
        elevation_deg=float(rng.uniform(3, 54)),
        roll_deg=float(rng.normal(0, 7)),
        lens_deg=float(rng.uniform(25, 65)),
        fill=fill,
        shift=(float(rng.uniform(-loose, loose)), float(rng.uniform(-loose, loose))),
    )
    drawn = drawing.render(camera, _wild_light(rng), size_px)  # (S, S, 4)
    behind = background(open_background(rng), rng, size_px)
    return photograph(drawn[..., :3] + behind * (1 - drawn[..., 3:]), rng)


def _wild_light(rng: np.random.Generator) -> Light:
    """A lamp or the sun somewhere above, warm to cool, over a weaker or stronger ambient."""
    warmth = float(rng.uniform(-0.18, 0.18))
    key, ambient = float(rng.uniform(0.25, 0.85)), float(rng.uniform(0.35, 0.75))
    return Light(
        key_direction=_toward(float(rng.uniform(0, 360)), float(rng.uniform(15, 80))),
        key_colour=(key * (1 + warmth), key, key * (1 - warmth)),
        sky_colour=(ambient, ambient, ambient),
        ground_colour=(ambient * 0.6, ambient * 0.58, ambient * 0.55),
    )


def background(texture: Image.Image, rng: np.random.Generator, size_px: int) -> Floats:
    """A random crop of a texture, turned, mirrored and shaded: (size_px, size_px, 3)."""
    side = min(texture.size) * float(rng.uniform(0.35, 1.0))
    left = float(rng.uniform(0, texture.width - side))
    top = float(rng.uniform(0, texture.height - side))
    crop = texture.resize(
        (size_px, size_px), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    picture = np.rot90(np.asarray(crop, dtype=np.float32) / 255, int(rng.integers(4)))
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    slope_x, slope_y = rng.uniform(-0.25, 0.25, size=2)
    ramp = np.linspace(-0.5, 0.5, size_px)
    shade = float(rng.uniform(0.6, 1.2)) + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    tint = rng.uniform(0.85, 1.15, size=3)
    shaded: Floats = np.clip(picture * shade[..., None] * tint, 0, 1).astype(np.float32)
    return shaded


def photograph(picture: Floats, rng: np.random.Generator) -> bytes:
    """Camera faults on a float picture: cast, exposure, blur, noise, then JPEG bytes."""
    cast = rng.uniform(0.85, 1.15, size=3)
    image = to_image(np.clip(picture, 0, 1) ** float(rng.uniform(0.75, 1.35)) * cast)
    if (blur := float(rng.uniform(-0.4, 1.1)) * image.width / 128) > 0:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    noise = rng.normal(0, float(rng.uniform(0, 0.045)), size=picture.shape)
    noisy = to_image(np.asarray(image, dtype=np.float32) / np.float32(255) + noise)
    return encode(noisy, "JPEG", int(rng.integers(35, 93)))


def to_image(picture: npt.NDArray[np.floating]) -> Image.Image:
    """A float picture as an 8-bit RGB image; values outside [0, 1] are cut off."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def encode(image: Image.Image, form: str, quality: int) -> bytes:
    """JPEG or WebP bytes; the same input gives the same bytes on one Pillow version."""
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return file.getvalue()


def contact_sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Equal images side by side, for a look at a set."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
