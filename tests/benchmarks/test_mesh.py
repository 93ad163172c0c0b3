"""Reading models: shapes, material and normals."""

import numpy as np
import pytest

from benchmarks.data.catalogue import read_library
from benchmarks.data.mesh import MeshError, read_materials, read_obj
from benchmarks.data.model import read_mesh, texture_member


def no_mtl(_: str) -> str:
    return ""


def prism(n_sides: int) -> str:
    """The side walls of an upright prism as OBJ text, without normals."""
    turns = 2 * np.pi * np.arange(n_sides) / n_sides
    points = [(np.cos(t), y, -np.sin(t)) for y in (0.0, 1.0) for t in turns]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    for side in range(n_sides):
        one, two = side + 1, (side + 1) % n_sides + 1
        lines.append(f"f {one} {two} {two + n_sides} {one + n_sides}")
    return "\n".join(lines)


def test_polygons_become_triangles_with_outward_normals():
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4"
    mesh = read_obj(square, no_mtl)
    assert mesh.positions.shape == (2, 3, 3)
    assert mesh.normals.reshape(-1, 3).tolist() == [[0, 0, 1]] * 6


def test_negative_indices_count_from_the_latest():
    forward = read_obj("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3", no_mtl)
    backward = read_obj("v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1", no_mtl)
    assert np.array_equal(forward.positions, backward.positions)


def test_normals_smooth_soft_edges_and_keep_hard_ones():
    round_one, square_one = read_obj(prism(24), no_mtl), read_obj(prism(4), no_mtl)
    outward = round_one.positions[..., [0, 2]].reshape(-1, 2)  # a radius is its own normal
    assert np.allclose(round_one.normals[..., [0, 2]].reshape(-1, 2), outward, atol=0.05)
    flat = square_one.normals  # (T, 3, 3): one direction a face
    assert np.allclose(flat, flat[:, :1], atol=1e-6)


@pytest.mark.parametrize("text", ["", "v 0 0 0", "v 0 0 0\nf 1 1 1", "v 0 0 0\nf 1 2 3"])
def test_a_model_without_a_face_to_draw_is_refused(text):
    with pytest.raises(MeshError):
        read_obj(text, no_mtl)


def test_material_values_are_read_and_bounded():
    found = read_materials("newmtl a\nKd 2 0.5 -1\nd 0.25\nNs 10\nmap_Kd x y.jpg\nnewmtl b\n")
    assert found["a"].diffuse == (1.0, 0.5, 0.0)
    assert found["a"].opacity == 0.25
    assert found["a"].texture == "x y.jpg"
    assert found["b"].texture is None


def test_a_model_gets_its_catalogue_size_and_finds_its_picture(library):
    box, card = read_library(library)
    assert (box.name, box.creator, box.licence) == ("Café box", "A. Maker", "CC-BY-3.0")
    extent = np.ptp(read_mesh(box).positions.reshape(-1, 3), axis=0)
    assert extent == pytest.approx([20, 40, 10])  # width, height, depth in cm
    material = read_mesh(card).materials[0]
    assert texture_member(card, material) == "made/card/picture.png"
