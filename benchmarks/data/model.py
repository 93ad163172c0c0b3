"""A catalogue object's model from its library's zip: mesh at real proportions, and textures."""

import io
import posixpath

import numpy as np
from PIL import Image

from benchmarks.data.catalogue import Furniture, open_library
from benchmarks.data.mesh import Floats, Material, Mesh, read_obj

_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
MAX_TEXTURE_PX = 512  # views are 128 px: more would only be minified


def _member(item: Furniture, name: str) -> str | None:
    """The zip's member that a model file means by ``name``; case and folders may be sloppy."""
    names = open_library(item.library).namelist()
    wanted = posixpath.normpath(
        posixpath.join(posixpath.dirname(item.model), name.replace("\\", "/"))
    )
    if wanted in names:
        return wanted
    folder = posixpath.dirname(item.model).lower() + "/"
    last = posixpath.basename(wanted).lower()
    for candidate in names:
        lower = candidate.lower()
        if lower.startswith(folder) and posixpath.basename(lower) == last:
            return candidate
    if not last.endswith(_PICTURES):
        return None
    beside = [name for name in names if name.lower().startswith(folder)]
    pictures = [name for name in beside if name.lower().endswith(_PICTURES)]
    return pictures[0] if len(pictures) == 1 else None  # renamed by its maker


def read_texture(item: Furniture, material: Material) -> Image.Image | None:
    """A material's picture as RGBA, at most 512 px; None when it has none or the zip lacks it."""
    member = texture_member(item, material)
    if member is None:
        return None
    content = open_library(item.library).read(member)
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    image.thumbnail((MAX_TEXTURE_PX, MAX_TEXTURE_PX), Image.Resampling.BOX)
    return image


def texture_member(item: Furniture, material: Material) -> str | None:
    """The path inside the library's zip of a material's picture."""
    if material.texture is None:
        return None
    words = material.texture.split(" ")  # options such as "-s 1 1 1" stand before the name
    while len(words) > 1 and words[0].startswith("-"):
        words = words[1:]
        while len(words) > 1 and words[0].lstrip("+-").replace(".", "", 1).isdigit():
            words = words[1:]
    return _member(item, " ".join(words))


def read_mesh(item: Furniture) -> Mesh:
    """The object's mesh, turned upright and scaled to its catalogue size in centimetres."""
    library = open_library(item.library)

    def open_mtl(name: str) -> str:
        member = _member(item, name)
        return library.read(member).decode("latin-1") if member else ""

    mesh = read_obj(library.read(item.model).decode("latin-1"), open_mtl)
    return fit(mesh, item.rotation, item.size_cm)


def fit(mesh: Mesh, rotation: tuple[float, ...], size_cm: tuple[float, float, float]) -> Mesh:
    """Rotate by a row-major 3 x 3, then stretch the bounding box to ``size_cm`` (x, y, z)."""
    turn = np.asarray(rotation, dtype=np.float32).reshape(3, 3)
    positions: Floats = mesh.positions @ turn.T
    flat = positions.reshape(-1, 3)
    extent = np.ptp(flat, axis=0)
    thick = extent > 1e-6 * max(float(extent.max()), 1e-12)
    wanted = np.asarray(size_cm, dtype=np.float32)
    ratio = np.divide(wanted, extent, where=thick, out=np.ones(3, np.float32))
    middle = (flat.min(0) + flat.max(0)) / 2
    normals = (mesh.normals @ turn.T) / ratio
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    return Mesh(
        positions=(positions - middle) * ratio,
        normals=normals,
        uvs=mesh.uvs,
        material_ids=mesh.material_ids,
        materials=mesh.materials,
    )


def read_textures(item: Furniture, mesh: Mesh) -> dict[int, Image.Image]:
    """The object's textures by material index."""
    found = {n: read_texture(item, material) for n, material in enumerate(mesh.materials)}
    return {n: image for n, image in found.items() if image is not None}
