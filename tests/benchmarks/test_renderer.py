"""What is drawn: which way is up, which side is seen, where a picture goes; and again the same."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.catalogue import read_furniture, read_library
from benchmarks.data.mesh import Material, Mesh, read_obj
from benchmarks.data.model import read_mesh, read_textures
from benchmarks.data.objects820 import Task, render_object, view_path
from benchmarks.data.renderer import Camera, Drawing, Light
from benchmarks.data.views import studio_view, view_rng, wild_view

pytestmark = pytest.mark.usefixtures("opengl")
LIGHT = Light((0, 1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
RED, GREEN, BLUE, WHITE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)


def hue(pixel):
    """The colour with its brightness taken out, as 0 and 1 by channel."""
    assert pixel[3] == pytest.approx(1.0)
    return tuple(int(level > 0.5 * max(pixel[:3])) for level in pixel[:3])


def draw(mesh, camera, textures=None, size_px=32):
    with Drawing(mesh, textures or {}) as drawing:
        return drawing.render(camera, LIGHT, size_px)


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "colour"), [(0, 0, RED), (90, 0, GREEN), (0, 89, BLUE)]
)
def test_each_side_is_seen_from_its_own_direction(box, azimuth_deg, elevation_deg, colour):
    drawn = draw(box, Camera(azimuth_deg, elevation_deg))
    assert hue(drawn[16, 16]) == colour


def test_the_object_stands_upright_and_fills_what_was_asked(box):
    covered = draw(box, Camera(0, 0, fill=0.75))[..., 3] > 0.5
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    assert len(rows) == pytest.approx(0.75 * 32, abs=1)  # 4 high by 2 wide
    assert len(columns) == pytest.approx(len(rows) / 2, abs=1)
    assert rows[0] + rows[-1] == pytest.approx(31, abs=1)  # in the middle


def test_the_top_is_above_and_the_right_hand_side_is_right(box):
    drawn = draw(box, Camera(30, 30))
    rows, columns = np.nonzero(drawn[..., 3] > 0.99)
    hues = np.array([hue(drawn[row, column]) for row, column in zip(rows, columns, strict=True)])
    blue, green, red = ((hues == colour).all(1) for colour in (BLUE, GREEN, RED))
    assert rows[blue].mean() < rows[red].mean()
    assert columns[red].mean() < columns[green].mean()


def test_shift_moves_right_and_up_and_roll_turns_clockwise(box):
    def middle(camera):
        rows, columns = np.nonzero(draw(box, camera)[..., 3] > 0.5)
        return rows.mean(), columns.mean()

    row, column = middle(Camera(0, 0, fill=0.5))
    moved_row, moved_column = middle(Camera(0, 0, fill=0.5, shift=(0.1, 0.2)))
    assert moved_column - column == pytest.approx(0.1 * 32, abs=0.6)
    assert row - moved_row == pytest.approx(0.2 * 32, abs=0.6)
    turned = draw(box, Camera(0, 0, roll_deg=45))[..., 3] > 0.5
    right_half = turned[:, 16:]
    assert np.nonzero(right_half)[0].mean() < 15.5  # the box's head now leans to the right


def test_a_texture_lies_the_right_way_round(library):
    card = list(read_library(library))[1]
    mesh = read_mesh(card)
    drawn = draw(mesh, Camera(0, 0), read_textures(card, mesh))
    assert hue(drawn[10, 10]) == RED
    assert hue(drawn[10, 21]) == GREEN
    assert hue(drawn[21, 10]) == BLUE
    assert hue(drawn[21, 21]) == WHITE


def test_clear_things_let_through_what_is_behind_them():
    pane = read_obj(
        "mtllib m\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1\nusemtl glass\nf 1 2 3 4\n"
        "v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nusemtl wall\nf 5 6 7 8",
        lambda _: "newmtl glass\nKd 0 0 1\nd 0.25\nnewmtl wall\nKd 1 0 0",
    )
    red, green, blue, alpha = draw(pane, Camera(0, 0))[16, 16]
    assert red > blue > green
    assert alpha == pytest.approx(1.0, abs=0.01)
    alone = Mesh(
        pane.positions[:2], pane.normals[:2], pane.uvs[:2], pane.material_ids[:2],
        (Material((0, 0, 1), opacity=0.25),),
    )  # fmt: skip
    assert draw(alone, Camera(0, 0))[16, 16, 3] == pytest.approx(0.25, abs=0.02)


def test_the_same_view_has_the_same_bytes_and_another_has_not(box, quarters):
    def wild(view):
        with Drawing(box, {}) as drawing:
            rng = view_rng(0, "box", view)
            return wild_view(drawing, rng, 48, lambda _: quarters)

    assert wild("wild-00") == wild("wild-00")
    assert wild("wild-00") != wild("wild-01")


def test_a_white_object_is_not_lost_on_a_white_page(box):
    marking = read_obj(
        "mtllib m\nv -1 0 -1\nv 1 0 -1\nv 1 0 1\nv -1 0 1\nusemtl w\nf 4 3 2 1",
        lambda _: "newmtl w\nKd 1 1 1",
    )
    for mesh, page_level in ((marking, 102), (box, 255)):
        with Drawing(mesh, {}) as drawing:
            content = studio_view(drawing, view_rng(0, "w", "studio-00"), 0, 64)
        corner = np.asarray(Image.open(io.BytesIO(content)))[0, 0]
        assert corner == pytest.approx(page_level, abs=3)


def test_an_object_is_rendered_once_and_a_lost_view_comes_back_the_same(
    library, tmp_path, monkeypatch
):
    monkeypatch.setattr("benchmarks.data.catalogue.LIBRARIES", {library: "CC-BY-3.0"})
    item = next(item for item in read_furniture() if item.name == "Card")
    views = ("icon", "studio-00", "studio-03")
    task = Task(item, (), frozenset(), views, tmp_path / "set", 32)
    assert render_object(task) == 3
    assert render_object(task) == 0
    lost = tmp_path / "set" / view_path(item.label, "studio-03")
    before = lost.read_bytes()
    lost.write_bytes(b"")  # as a power cut may leave it
    assert render_object(task) == 1
    assert lost.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))
