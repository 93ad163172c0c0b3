"""What wild views stand in front of: texture pictures of the catalogue, divided by split.

An object's background comes from textures of objects in its own cell, a cell being one value of
(``split``, ``split_catalogue``): so no background is seen on two sides of either split. A texture
that objects of two cells use, or that has a near copy in another cell (recompressed, resized), is
used by none, and an object never stands before a texture of its own.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks.data.catalogue import Furniture, open_library
from benchmarks.data.mesh import read_materials
from benchmarks.data.model import texture_member
from benchmarks.data.splits import near_twins

MIN_SIDE_PX = 48
MIN_DEVIATION = 4.0  # grey levels of 255: below it a texture is one flat colour
KEPT_SIDE_PX = 256
COPY_RMS = 0.032  # of RGB levels in [0, 1]; true copies lie below, with a few plain look-alikes
Cell = tuple[str, str]


@dataclass(frozen=True)
class Texture:
    """One picture: where it is, who uses it, and its look in short."""

    library: str
    member: str
    look: str  # mostly equal for the same picture at another size; `near_copies` finds the rest
    users: frozenset[str]  # labels of the objects whose materials name it


def picture_look(image: Image.Image) -> str:
    """A 64-bit difference hash and a coarse mean colour: one picture has one look, mostly."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
    mean = np.asarray(image.convert("RGB").resize((1, 1), Image.Resampling.BOX)).ravel() // 16
    return f"{bits}-{''.join(f'{level:x}' for level in mean)}"


def is_background(image: Image.Image) -> bool:
    """True for an opaque, large enough picture that is not one flat colour."""
    if min(image.size) < MIN_SIDE_PX or max(image.size) > 8 * min(image.size):
        return False
    if "A" in image.getbands() or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if float(alpha.mean()) < 250:
            return False
    return float(np.asarray(image.convert("L").resize((64, 64))).std()) >= MIN_DEVIATION


def read_textures(furniture: Sequence[Furniture]) -> list[Texture]:
    """Every picture that is fit for a background, with all objects that use it, in fixed order."""
    users: dict[tuple[str, str], set[str]] = {}
    for item in furniture:
        library = open_library(item.library)
        mtl = item.model.rsplit(".", 1)[0] + ".mtl"
        if mtl not in library.namelist():
            continue
        for material in read_materials(library.read(mtl).decode("latin-1")).values():
            if member := texture_member(item, material):
                users.setdefault((item.library, member), set()).add(item.label)
    pictures: dict[str, tuple[str, str]] = {}  # look -> first place
    seen_by: dict[str, set[str]] = {}
    looks: dict[str, str] = {}  # digest of the bytes -> look
    for (name, member), labels in sorted(users.items()):
        content = open_library(name).read(member)
        digest = hashlib.sha256(content).hexdigest()
        if digest not in looks:
            try:
                image = Image.open(io.BytesIO(content))
                looks[digest] = picture_look(image) if is_background(image) else ""
            except (UnidentifiedImageError, OSError):
                looks[digest] = ""
        if look := looks[digest]:
            pictures.setdefault(look, (name, member))
            seen_by.setdefault(look, set()).update(labels)
    return [
        Texture(*pictures[look], look=look, users=frozenset(seen_by[look])) for look in pictures
    ]


def deal_textures(textures: Sequence[Texture], cells: dict[str, Cell]) -> dict[Cell, list[Texture]]:
    """Textures by cell; one used from two cells is left out. ``cells`` maps label -> cell."""
    dealt: dict[Cell, list[Texture]] = {cell: [] for cell in sorted(set(cells.values()))}
    for texture in textures:
        used_from = {cells[label] for label in texture.users}
        if len(used_from) == 1:
            dealt[used_from.pop()].append(texture)
    return dealt


def near_copies(dealt: dict[Cell, list[Texture]]) -> frozenset[Texture]:
    """Textures that look almost like one of another cell: these stand behind nothing."""
    owned = [(cell, texture) for cell, textures in dealt.items() for texture in textures]
    small = [read_picture(texture).resize((24, 24), Image.Resampling.BOX) for _, texture in owned]
    looks = np.stack([np.asarray(image, dtype=np.float32) for image in small]) / np.float32(255)
    groups = near_twins(looks.reshape(len(owned), -1, 3), COPY_RMS)
    shared = [group for group in groups if len({owned[number][0] for number in group}) > 1]
    return frozenset(owned[number][1] for group in shared for number in group)


def pick(
    rng: np.random.Generator, textures: Sequence[Texture], banned: frozenset[Texture]
) -> Texture:
    """A texture at random, drawn again while it is a banned one.

    Raises ValueError when all are banned.
    """
    if banned.issuperset(textures):
        raise ValueError("no texture is left for a background")
    while (texture := textures[int(rng.integers(len(textures)))]) in banned:
        pass
    return texture


def choices(dealt: dict[Cell, list[Texture]], label: str, cell: Cell) -> list[Texture]:
    """The textures that may stand behind an object: of its cell, and not its own."""
    return [texture for texture in dealt[cell] if label not in texture.users]


def read_picture(texture: Texture) -> Image.Image:
    """The picture as RGB, at most 256 px on its longer side."""
    content = open_library(texture.library).read(texture.member)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((KEPT_SIDE_PX, KEPT_SIDE_PX), Image.Resampling.BOX)
    return image
