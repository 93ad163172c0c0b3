"""Wavefront OBJ + MTL to flat arrays that a renderer can draw.

Written here because no kept loader fits: trimesh has no crease-angle normals, tinyobjloader has no
wheel. Only what the furniture needs: polygons, ``usemtl``, ``Kd Ks Ns d map_Kd``. Faces without
normals are smoothed across edges softer than a crease angle.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CREASE_COSINE = float(np.cos(np.deg2rad(42.0)))  # sharper edges stay sharp
MAX_CORNER_PAIRS = 20_000_000  # past this a mesh is drawn with flat faces rather than not at all


class MeshError(Exception):
    """A model file cannot be read: broken, or not the OBJ this reads."""


@dataclass(frozen=True)
class Material:
    """What a face looks like. Colours are sRGB in [0, 1]."""

    diffuse: tuple[float, float, float] = (0.8, 0.8, 0.8)
    specular: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shininess: float = 0.0
    opacity: float = 1.0
    texture: str | None = None  # file name as the MTL gives it


@dataclass(frozen=True)
class Mesh:
    """T triangles, corners unshared: every array's second axis is the triangle's corner."""

    positions: Floats  # (T, 3, 3), y up
    normals: Floats  # (T, 3, 3), L2 = 1
    uvs: Floats  # (T, 3, 2), v up
    material_ids: Ints  # (T,), into ``materials``
    materials: tuple[Material, ...]


@dataclass
class _Faces:
    """Corner indices gathered while reading; -1 is "not given"."""

    corners: list[tuple[int, int, int]] = field(default_factory=list)  # position, uv, normal
    material_ids: list[int] = field(default_factory=list)  # one a triangle


def read_materials(text: str) -> dict[str, Material]:
    """An MTL's materials by name; unknown keys are passed over."""
    entries: dict[str, dict[str, str]] = {}
    entry: dict[str, str] = {}
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            entry = entries.setdefault(rest.strip(), {})
        else:
            entry[key] = rest.strip()
    return {name: _material(entry) for name, entry in entries.items()}


def _colour(text: str) -> tuple[float, float, float]:
    values = [min(max(float(word), 0.0), 1.0) for word in text.split()[:3]]
    return (values[0], values[1], values[2]) if len(values) == 3 else (0.8, 0.8, 0.8)


def _material(entry: dict[str, str]) -> Material:
    return Material(
        diffuse=_colour(entry.get("Kd", "0.8 0.8 0.8")),
        specular=_colour(entry.get("Ks", "0 0 0")),
        shininess=float(entry.get("Ns", "0").split()[0]),
        opacity=min(max(float(entry.get("d", "1").split()[-1]), 0.0), 1.0),
        texture=entry.get("map_Kd"),
    )


def _index(word: str, count: int) -> int:
    """OBJ index to 0-based: 1 is the first, -1 the latest, empty is -1 for "not given"."""
    if not word:
        return -1
    number = int(word)
    return number - 1 if number > 0 else count + number


def read_obj(text: str, open_mtl: Callable[[str], str]) -> Mesh:
    """A model's text to a Mesh; ``open_mtl`` gives the text of a material file by its name.

    Raises MeshError when there is no triangle or a corner points outside the file.
    """
    positions: list[list[float]] = []
    uvs: list[list[float]] = []
    normals: list[list[float]] = []
    faces = _Faces()
    library: dict[str, Material] = {}
    materials: dict[str, int] = {}
    current = ""
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        match words[0]:
            case "v":
                positions.append([float(word) for word in words[1:4]])
            case "vt":
                uvs.append([float(word) for word in words[1:3]])
            case "vn":
                normals.append([float(word) for word in words[1:4]])
            case "f":
                corners: list[tuple[int, int, int]] = []
                for word in words[1:]:
                    at, uv, normal = ([*word.split("/"), "", ""])[:3]
                    corners.append(
                        (
                            _index(at, len(positions)),
                            _index(uv, len(uvs)),
                            _index(normal, len(normals)),
                        )
                    )
                for second, third in itertools.pairwise(corners[1:]):  # a fan
                    faces.corners += (corners[0], second, third)
                    faces.material_ids.append(materials.setdefault(current, len(materials)))
            case "usemtl":
                current = " ".join(words[1:])
            case "mtllib":
                library |= read_materials(open_mtl(" ".join(words[1:])))
    if not faces.corners:
        raise MeshError("no face in the model")
    return _build(positions, uvs, normals, faces, [library.get(n, Material()) for n in materials])


def _build(
    positions: list[list[float]],
    uvs: list[list[float]],
    normals: list[list[float]],
    faces: _Faces,
    materials: list[Material],
) -> Mesh:
    """Gather corners into flat arrays, drop empty triangles, fill in missing normals."""
    index = np.asarray(faces.corners, dtype=np.int64).reshape(-1, 3, 3)  # (T, corner, which)
    tables = [np.asarray(positions, np.float64).reshape(-1, 3)]
    tables += [np.asarray([*uvs, [0.0, 0.0]], np.float64).reshape(-1, 2)]  # -1 reads the last row
    tables += [np.asarray([*normals, [0.0, 0.0, 0.0]], np.float64).reshape(-1, 3)]
    if (index < -1).any() or any((index[..., k] >= len(tables[k])).any() for k in range(3)):
        raise MeshError("a face points outside the file")
    corners = tables[0][index[..., 0]]  # (T, 3, 3)
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # (T, 3)
    solid = np.linalg.norm(face, axis=1) > 1e-12 * max(float(np.ptp(tables[0])) ** 2, 1e-12)
    index, corners, face = index[solid], corners[solid], face[solid]
    if not len(index):
        raise MeshError("every face of the model is empty")
    given = tables[2][index[..., 2]]  # (T, 3, 3), zero where not given
    missing = np.linalg.norm(given, axis=2, keepdims=True) < 1e-6
    if missing.any():
        given = np.where(missing, crease_normals(corners, face), given)
    given /= np.maximum(np.linalg.norm(given, axis=2, keepdims=True), 1e-12)
    return Mesh(
        positions=corners.astype(np.float32),
        normals=given.astype(np.float32),
        uvs=tables[1][index[..., 1]].astype(np.float32),
        material_ids=np.asarray(faces.material_ids, dtype=np.int64)[solid],
        materials=tuple(materials),
    )


def crease_normals(
    corners: npt.NDArray[np.float64], face: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Smooth normals that keep creases: (T, 3, 3), (T, 3) area-weighted -> (T, 3, 3), not unit.

    A corner sums the faces that meet at its position and turn from its own by less than the crease.
    """
    unit = face / np.maximum(np.linalg.norm(face, axis=1, keepdims=True), 1e-300)
    flat = np.repeat(face[:, None], 3, axis=1)  # (T, 3, 3)
    scale = max(float(np.ptp(corners)), 1e-12)
    keys = np.round(corners.reshape(-1, 3) / scale * 1e6).astype(np.int64)  # (3T, 3)
    packed = (keys - keys.min(0)) @ np.array([1 << 42, 1 << 21, 1])
    order = np.argsort(packed, kind="stable")
    starts = np.flatnonzero(np.diff(packed[order], prepend=packed.min() - 1))
    sizes = np.diff(starts, append=len(order))  # corners that share a position
    if int((sizes**2).sum()) > MAX_CORNER_PAIRS:
        return flat
    each_start, each_size = np.repeat(starts, sizes), np.repeat(sizes, sizes)  # (3T,)
    left = np.repeat(np.arange(len(order)), each_size)  # (P,) pairs of corners at one position
    offset = np.arange(len(left)) - np.repeat(np.cumsum(each_size) - each_size, each_size)
    right = np.repeat(each_start, each_size) + offset
    one, other = order[left] // 3, order[right] // 3  # their triangles
    soft = np.einsum("pi,pi->p", unit[one], unit[other]) > CREASE_COSINE
    summed = np.stack(
        [
            np.bincount(order[left[soft]], face[other[soft], axis], minlength=len(order))
            for axis in range(3)
        ],
        axis=1,
    )
    return summed.reshape(-1, 3, 3).astype(np.float64)
