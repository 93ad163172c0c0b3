"""The 820 objects of the five furniture libraries: names, makers, licences, and their files.

A library (``*.sh3f``) is a zip of OBJ + MTL + texture files, one PNG icon per object, and a Java
properties file with numbered keys (``name#12=Chair``).
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.data.packages import FURNITURE, unpack

LIBRARIES = {  # file name -> the licence its properties file and LICENSE.TXT state
    "Scopia": "CC-BY-3.0",
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
}
TRAIN_LIBRARIES = frozenset({"Scopia", "KatorLegaz"})  # the catalogue-disjoint split's train side
_NUMBERED = re.compile(r"^([A-Za-z]+)#(\d+)\s*[=:]\s*(.*)$")


@dataclass(frozen=True)
class Furniture:
    """One catalogue object. ``model`` and ``icon`` are paths inside its library's zip."""

    label: str  # unique and fit for a file name, e.g. "scopia-bed1"
    name: str
    library: str
    category: str
    creator: str
    model: str
    icon: str
    size_cm: tuple[float, float, float]  # width x, height y, depth z
    rotation: tuple[float, ...]  # row-major 3 x 3, applied to the model first

    @property
    def licence(self) -> str:
        return LIBRARIES[self.library]

    @property
    def split_catalogue(self) -> str:
        return "train" if self.library in TRAIN_LIBRARIES else "test"


def library_path(library: str) -> Path:
    """The library's file, from the Debian package."""
    return unpack(FURNITURE) / "usr/share/sweethome3d/furniture" / f"{library}.sh3f"


@cache
def open_library(library: str) -> zipfile.ZipFile:
    """The library's zip, opened once a process."""
    return zipfile.ZipFile(library_path(library))


def _numbered(text: str) -> dict[int, dict[str, str]]:
    """``key#n=value`` lines of a properties file, gathered by n."""
    objects: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _NUMBERED.match(line.strip()):
            key, number, value = match.groups()
            objects.setdefault(int(number), {})[key] = _unescape(value.strip())
    return objects


def _unescape(value: str) -> str:
    """Java properties escapes: ``\\u00e9`` and a backslash before anything else."""
    value = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), value)
    return re.sub(r"\\(.)", r"\1", value)


def read_library(library: str) -> Iterator[Furniture]:
    """A library's objects in its own order."""
    text = open_library(library).read("PluginFurnitureCatalog.properties").decode("latin-1")
    for _, entry in sorted(_numbered(text).items()):
        if "model" not in entry:
            continue
        model = PurePosixPath(entry["model"].lstrip("/"))
        rotation = entry.get("modelRotation", "1 0 0 0 1 0 0 0 1")
        yield Furniture(
            label=f"{library}-{model.stem}".lower().replace("_", "-"),
            name=entry["name"],
            library=library,
            category=entry["category"],
            creator=entry["creator"],
            model=str(model),
            icon=entry["icon"].lstrip("/"),
            size_cm=(float(entry["width"]), float(entry["height"]), float(entry["depth"])),
            rotation=tuple(float(number) for number in rotation.split()),
        )


def read_furniture() -> list[Furniture]:
    """All objects of the five libraries, sorted by label; labels are unique."""
    found = [item for library in LIBRARIES for item in read_library(library)]
    if len({item.label for item in found}) != len(found):
        raise ValueError("two objects share a label")
    return sorted(found, key=lambda item: item.label)


def icon_image(item: Furniture, size_px: int) -> Image.Image:
    """The catalogue icon on white, squared and resized: RGB, (size_px, size_px)."""
    content = open_library(item.library).read(item.icon)
    icon = Image.open(io.BytesIO(content)).convert("RGBA")
    side = max(icon.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(icon, ((side - icon.width) // 2, (side - icon.height) // 2))
    return square.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS)


def icon_grey(item: Furniture) -> npt.NDArray[np.float32]:
    """The icon as grey levels: (32, 32) in [0, 1], 1 is white."""
    grey = icon_image(item, 128).convert("L").resize((32, 32), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255)
