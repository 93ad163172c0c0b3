"""Emoji: the same things drawn by different artists, 12 styles of 7 houses.

    python -m benchmarks.data.emoji [--size 64]

Written to the cache's ``emoji/<size>px`` with ``manifest.csv``, and ``training.csv``, the paths of
its training images; nothing of it belongs in the repository, since two of the sets are CC-BY-SA. A
class is one meaning without skin tone, drawn in at least 3 colour styles. Roles go by house, so
that no house is on both sides: styles of one house share geometry, and only cross-house pairs
measure recognition. A second run makes what is missing.
"""

import argparse
import io
import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.data.cache import cache_folder, claim_folder, is_complete, write_atomic
from benchmarks.data.manifest import write_manifest
from benchmarks.data.packages import Package, npm, unpack
from benchmarks.data.splits import split_groups

RECIPE = 1  # +1 when other pictures, or other classes, would come out
SEED = 0
MIN_COLOUR_STYLES = 3
SHARES = {"train": 0.5, "val": 0.1}  # of the classes; the rest is for testing
COLUMNS = ("path", "label", "split", "role", "style", "house", "kind", "licence")
Drawings = dict[str, str]  # name -> SVG text

_TONE = r"(light|medium-light|medium|medium-dark|dark)"
# Skin tones, and pictures of several people that differ by who stands where.
_DROPPED = re.compile(rf"skin-tone|-tone\d|-{_TONE}-{_TONE}$|^family-|^couple-with-heart-|^kiss-")
_TONED = re.compile(rf"^(.+?)-{_TONE}$")  # or a thing, such as a traffic light
_LEFT_OUT = "white-square-button"  # left out: one artist's is the black square's picture
_SAME = {"man-walking-facing-right": "person-walking-facing-right"}  # one picture, two names


@dataclass(frozen=True)
class Style:
    """One icon set: whose it is, which package, and which side of a search it is used on."""

    name: str
    house: str
    role: str  # "query" or "gallery", the same for a whole house
    kind: str  # "colour" or "mono"
    licence: str
    package: Package


def _style(name: str, house: str, role: str, licence: str, version: str, sha256: str) -> Style:
    kind = "mono" if name.endswith(("monotone", "contrast")) else "colour"
    return Style(name, house, role, kind, licence, npm(f"@iconify-json/{name}", version, sha256))


STYLES = (
    _style(
        *("twemoji", "twemoji", "gallery", "CC-BY-4.0", "1.2.5"),
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    _style(
        *("noto", "noto", "query", "Apache-2.0", "1.2.9"),
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    _style(
        *("openmoji", "openmoji", "query", "CC-BY-SA-4.0", "1.2.29"),
        "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    ),
    _style(
        *("fluent-emoji", "fluent", "gallery", "MIT", "1.2.7"),
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
    ),
    _style(
        *("fluent-emoji-flat", "fluent", "gallery", "MIT", "1.2.6"),
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    _style(
        *("emojione", "emojione", "query", "CC-BY-4.0", "1.2.3"),
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
    ),
    _style(
        *("noto-v1", "noto", "query", "Apache-2.0", "1.2.5"),
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
    ),
    _style(
        *("emojione-v1", "emojione", "query", "CC-BY-SA-4.0", "1.2.3"),
        "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
    ),
    _style(
        *("streamline-emojis", "streamline", "gallery", "CC-BY-4.0", "1.2.4"),
        "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
    ),
    _style(
        *("fxemoji", "fxemoji", "query", "Apache-2.0", "1.2.2"),
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    ),
    _style(
        *("fluent-emoji-high-contrast", "fluent", "gallery", "MIT", "1.2.6"),
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
    ),
    _style(
        *("emojione-monotone", "emojione", "query", "CC-BY-4.0", "1.2.1"),
        "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
    ),
)


def common_name(name: str) -> str:
    """One spelling for names that differ by set only."""
    name = re.sub(r"^flag-for-(flag-)?", "flag-", name)
    return _SAME.get(name, name)


def is_dropped(name: str, names: Container[str]) -> bool:
    """True for a skin-tone or family variant; ``names`` are all of the set's.

    A bare "-light" is a skin tone only where the same stem has a "-dark".
    """
    if _DROPPED.search(name) is not None or name == _LEFT_OUT:
        return True
    toned = _TONED.match(name)
    return toned is not None and all(f"{toned[1]}-{tone}" in names for tone in ("light", "dark"))


def read_drawings(style: Style) -> Drawings:
    """A set's pictures by every name they go under, variants dropped."""
    text = (unpack(style.package) / "package/icons.json").read_text(encoding="utf-8")
    return drawings_of(json.loads(text))


def drawings_of(icons: dict[str, object]) -> Drawings:
    """SVG texts by name from an iconify JSON; mirrored or turned aliases are left out."""
    bodies, aliases = icons["icons"], icons.get("aliases", {})
    assert isinstance(bodies, dict)
    assert isinstance(aliases, dict)
    width, height = icons.get("width", 16), icons.get("height", 16)
    found: Drawings = {}
    for name, icon in bodies.items():
        box = f"0 0 {icon.get('width', width)} {icon.get('height', height)}"
        found[name] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}">{icon["body"]}</svg>'
        )
    for name, alias in aliases.items():
        if set(alias) == {"parent"} and alias["parent"] in found:
            found[name] = found[alias["parent"]]
    kept = sorted((name for name in found if not is_dropped(name, found)), reverse=True)
    return {common_name(name): found[name] for name in kept}


def group_names(sets: Mapping[str, Drawings], colour: frozenset[str]) -> dict[str, str]:
    """Name -> class label: names that a colour set draws identically are one class.

    The label is the class's shortest name, the first of equals in the alphabet.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for style, drawings in sets.items():
        same: dict[str, str] = {}
        for name, svg in drawings.items():
            known = same.setdefault(svg, name) if style in colour else name
            parent[root(name)] = root(known)
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    return {
        name: min(group, key=lambda one: (len(one), one))
        for group in members.values()
        for name in group
    }


def choose_classes(sets: Mapping[str, Drawings], colour: frozenset[str]) -> dict[str, Drawings]:
    """Style -> (label -> SVG), for labels drawn in at least 3 colour styles."""
    labels = group_names(sets, colour)
    drawn = {
        style: {labels[name]: svg for name, svg in sorted(drawings.items(), reverse=True)}
        for style, drawings in sets.items()
    }
    counted = Counter(label for style in colour for label in drawn[style])
    return {
        style: {
            label: svg for label, svg in sorted(of.items()) if counted[label] >= MIN_COLOUR_STYLES
        }
        for style, of in drawn.items()
    }


def split_labels(labels: list[str]) -> dict[str, str]:
    """Label -> split, class-disjoint: half train, a tenth val, the rest test."""
    sizes = {split: int(len(labels) * share) for split, share in SHARES.items()}
    sizes["test"] = len(labels) - sum(sizes.values())
    sides = split_groups([[number] for number in range(len(labels))], sizes, SEED)
    return {label: sides[number] for number, label in enumerate(labels)}


def draw(svg: str, size_px: int) -> bytes:
    """An SVG on white, or on grey when it is all white: PNG bytes, (size_px, size_px)."""
    content = b""
    for page in ("white", "#808080"):
        content = bytes(
            resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, background=page)
        )
        with Image.open(io.BytesIO(content)) as image:
            if image.convert("L").getextrema() != (255, 255):
                break
    return content


def rows_of(classes: Mapping[str, Drawings], splits: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Manifest rows, by style, then label."""
    for style in STYLES:
        for label in classes[style.name]:
            yield {
                "path": f"images/{style.name}/{label}.png",
                "label": label,
                "split": splits[label],
                "role": style.role,
                "style": style.name,
                "house": style.house,
                "kind": style.kind,
                "licence": style.licence,
            }


def build(size_px: int) -> Path:
    """Draw whatever is missing and write the manifest; the set's folder."""
    folder = cache_folder() / "emoji" / f"{size_px}px"
    claim_folder(folder, {"recipe": RECIPE, "seed": SEED})
    sets = {style.name: read_drawings(style) for style in STYLES}
    classes = choose_classes(
        sets, frozenset(style.name for style in STYLES if style.kind == "colour")
    )
    splits = split_labels(sorted({label for of in classes.values() for label in of}))
    rows = list(rows_of(classes, splits))
    console = Console(stderr=True)
    n_made = 0
    for row in track(rows, "Emoji", console=console):
        path = folder / row["path"]
        if not is_complete(path):
            svg = classes[row["style"]][row["label"]]
            write_atomic(path, draw(svg, size_px), durable=False)
            n_made += 1
    write_manifest(folder / "manifest.csv", rows, COLUMNS)
    training = [{"path": row["path"]} for row in rows if row["split"] == "train"]
    write_manifest(folder / "training.csv", training, ("path",))
    counted = Counter(splits.values())
    print(f"{folder / 'manifest.csv'}: {len(rows)} images ({n_made} new)")
    print(f"{len(splits)} classes {dict(counted)}; {Counter(row['style'] for row in rows)}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, pixels")
    build(parser.parse_args().size)


if __name__ == "__main__":
    main()
