"""A tiny handmade furniture library, so that no test needs the network or the real one."""

import io
import zipfile
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.data import catalogue
from benchmarks.data.mesh import Mesh, read_obj
from benchmarks.data.packages import FURNITURE

# A box, 2 wide (x), 4 high (y), 1 deep (z): front +z red, right +x green, top +y blue, rest grey.
BOX_OBJ = """
mtllib box.mtl
v -1 -2 -0.5
v 1 -2 -0.5
v 1 2 -0.5
v -1 2 -0.5
v -1 -2 0.5
v 1 -2 0.5
v 1 2 0.5
v -1 2 0.5
usemtl red
f 5 6 7 8
usemtl green
f 6 2 3 7
usemtl blue
f 8 7 3 4
usemtl grey
f 2 1 4 3
f 1 5 8 4
f 1 2 6 5
"""
BOX_MTL = """
newmtl red
Kd 1 0 0
newmtl green
Kd 0 1 0
newmtl blue
Kd 0 0 1
newmtl grey
Kd 0.5 0.5 0.5
"""
# An upright square of side 2 in the plane z = 0 that shows picture.png once, facing +z.
CARD_OBJ = """
mtllib card.mtl
v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl picture
f -4/-4 -3/-3 -2/-2 -1/-1
"""
CARD_MTL = "newmtl picture\nKd 1 1 1\nd 1.0\nmap_Kd C:\\somewhere\\PICTURE.png\n"
PROPERTIES = r"""
id=Handmade
id#1=box
name#1=Caf\u00e9 box
category#1=Kitchen
icon#1=/made/box.png
model#1=/made/box/box.obj
width#1=20
depth#1=10
height#1=40
creator#1=A. Maker
id#2=card
name#2=Card
category#2=Office
icon#2=/made/card.png
model#2=/made/card/card.obj
width#2=50
depth#2=1
height#2=50
creator#2=B. Maker
"""


@pytest.fixture(scope="session")
def opengl() -> None:
    """Skips where OpenGL without a screen cannot be had."""
    if find_library("EGL") is None:
        pytest.skip("no libEGL on this machine")


@pytest.fixture
def box() -> Mesh:
    """The box, drawn in its own units."""
    return read_obj(BOX_OBJ, lambda _: BOX_MTL)


@pytest.fixture(name="quarters")
def quarters_fixture() -> Image.Image:
    return quarters()


def quarters() -> Image.Image:
    """A 64 px picture: top left red, top right green, bottom left blue, bottom right white."""
    image = Image.new("RGB", (64, 64), "red")
    image.paste((0, 255, 0), (32, 0, 64, 32))
    image.paste((0, 0, 255), (0, 32, 32, 64))
    image.paste((255, 255, 255), (32, 32, 64, 64))
    return image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a library of two objects, placed in an otherwise empty cache."""
    monkeypatch.setenv("KINSPACE_CACHE", str(tmp_path / "cache"))
    unpacked = tmp_path / "cache" / "unpacked" / f"{FURNITURE.filename}-{FURNITURE.sha256[:12]}"
    path = unpacked / "usr/share/sweethome3d/furniture/Scopia.sh3f"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", PROPERTIES)
        archive.writestr("made/box.png", png(Image.new("RGBA", (40, 20), (255, 0, 0, 255))))
        archive.writestr("made/card.png", png(quarters()))
        archive.writestr("made/box/box.obj", BOX_OBJ)
        archive.writestr("made/box/box.mtl", BOX_MTL)
        archive.writestr("made/card/card.obj", CARD_OBJ)
        archive.writestr("made/card/card.mtl", CARD_MTL)
        archive.writestr("made/card/picture.png", png(quarters()))
    catalogue.open_library.cache_clear()
    yield "Scopia"
    catalogue.open_library("Scopia").close()
    catalogue.open_library.cache_clear()
