"""The demo pack: a small cut of Objects-820 that ships in the repository, with its credits.

    python -m benchmarks.data.pack [--into registry/demo_pack]

340 training objects (5 wild + 2 studio views each) and 160 test objects (4 wild + 3 studio), 128 px
WebP, at most 7.5 MB in all. When they do not fit, training objects lose wild views first. Only
CC-BY and CC0 work. Run again, it writes the same bytes.
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.backgrounds import deal_textures, near_copies
from benchmarks.data.backgrounds import read_textures as read_backgrounds
from benchmarks.data.cache import write_atomic
from benchmarks.data.catalogue import LIBRARIES, Furniture, read_furniture
from benchmarks.data.manifest import OBJECT_COLUMNS, read_manifest, write_manifest
from benchmarks.data.objects820 import build, cells_of, split_furniture

BUDGET_BYTES = 7_500_000
QUALITY = 80  # WebP
SEED = 0
SIZE_PX = 128
N_OBJECTS = {"train": 340, "test": 160}
STUDIO = {"train": ("studio-01", "studio-05"), "test": ("studio-01", "studio-04", "studio-07")}
N_WILD = {"train": 5, "test": 4}
LICENCE_URLS = {
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}


class BudgetError(Exception):
    """The pack does not fit its budget even with the fewest views."""


def choose_labels(rows: Iterable[dict[str, str]]) -> dict[str, str]:
    """Label -> split of the objects that go in: drawn at random, the same ones every time."""
    known = sorted({(row["split"], row["label"]) for row in rows})
    chosen: dict[str, str] = {}
    for split, count in N_OBJECTS.items():
        labels = [label for side, label in known if side == split]
        picked = np.random.default_rng(SEED).permutation(len(labels))[:count]
        chosen |= {labels[number]: split for number in sorted(picked)}
    return chosen


def choose_rows(
    rows: Iterable[dict[str, str]], chosen: dict[str, str], n_train_wild: int
) -> list[dict[str, str]]:
    """The manifest rows that go in, in manifest order, still with their paths in the set."""
    n_wild = {**N_WILD, "train": n_train_wild}
    views = {
        split: {*STUDIO[split], *(f"wild-{number:02d}" for number in range(n_wild[split]))}
        for split in N_OBJECTS
    }
    return [row for row in rows if row["view"] in views.get(chosen.get(row["label"], ""), ())]


def shrink(content: bytes) -> bytes:
    """An image file as the pack's WebP."""
    file = io.BytesIO()
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def pack_path(row: dict[str, str]) -> str:
    """A row's path in the pack, relative to its manifest."""
    return f"images/{row['label']}-{row['view']}.webp"


def credits_page(furniture: list[Furniture], shown: set[str], behind: set[str]) -> str:
    """Who made what: the objects shown, and those whose textures may stand behind them."""
    libraries = "\n".join(
        f"- {library}: {licence}, <{LICENCE_URLS[licence]}>"
        for library, licence in LIBRARIES.items()
    )
    lines = [
        "# Credits",
        "",
        "The images are renders of 3D models made by the people below, published in the furniture",
        "libraries of Sweet Home 3D (Debian package `sweethome3d-furniture` 1.8-1). Changes made:",
        "each model was rendered from several sides; in wild views it was put before a crop of",
        "another model's texture, recoloured, blurred and compressed. No endorsement is implied.",
        "",
        libraries,
        "",
        "`object`: the model is shown. `background`: a texture of it may stand behind another.",
        "",
        "| object | name | creator | library | licence | used as |",
        "|---|---|---|---|---|---|",
    ]
    for item in furniture:
        roles = ((item.label in shown, "object"), (item.label in behind, "background"))
        if used := ", ".join(name for is_used, name in roles if is_used):
            cells = (item.label, item.name, item.creator, item.library, item.licence, used)
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def texture_owners(furniture: list[Furniture]) -> set[str]:
    """Labels of the objects whose textures may stand behind a training or test object."""
    cells = cells_of(furniture, split_furniture(furniture))
    dealt = deal_textures(read_backgrounds(furniture), cells)
    banned = near_copies(dealt)
    return {
        label
        for (split, _), textures in dealt.items()
        if split in N_OBJECTS
        for texture in textures
        if texture not in banned
        for label in texture.users
    }


def make_pack(source: Path, credits_text: str) -> dict[str, bytes]:
    """The pack's files by relative path, from a rendered set's folder.

    Raises BudgetError when not even one wild view a training object fits.
    """
    rows = read_manifest(source / "manifest.csv")
    chosen = choose_labels(rows)
    small = {
        row["path"]: shrink((source / row["path"]).read_bytes())
        for row in choose_rows(rows, chosen, N_WILD["train"])
    }
    for n_train_wild in range(N_WILD["train"], 0, -1):
        picked = choose_rows(rows, chosen, n_train_wild)
        files = {pack_path(row): small[row["path"]] for row in picked}
        files["CREDITS.md"] = credits_text.encode()
        total = sum(len(content) for content in files.values())
        if total + 200 * len(picked) <= BUDGET_BYTES:  # a manifest line is under 200 bytes
            return files
    raise BudgetError(f"the pack needs more than {BUDGET_BYTES} bytes")


def write_pack(files: dict[str, bytes], rows: list[dict[str, str]], into: Path) -> None:
    """Write the files and their manifest; images of an earlier pack that are not in it go."""
    for stale in sorted((into / "images").glob("*.webp")):
        if f"images/{stale.name}" not in files:
            stale.unlink()
    for name, content in files.items():
        write_atomic(into / name, content, durable=False)
    packed = [{**row, "path": pack_path(row)} for row in rows if pack_path(row) in files]
    write_manifest(into / "manifest.csv", packed, OBJECT_COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=Path("registry/demo_pack"))
    into: Path = parser.parse_args().into
    source = build(SIZE_PX, 0, 2)
    rows = read_manifest(source / "manifest.csv")
    furniture = read_furniture()
    page = credits_page(furniture, set(choose_labels(rows)), texture_owners(furniture))
    files = make_pack(source, page)
    write_pack(files, rows, into)
    counted = Counter((row["split"], row["role"]) for row in read_manifest(into / "manifest.csv"))
    n_bytes = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    print(f"{into}: {dict(counted)}, {n_bytes} bytes")


if __name__ == "__main__":
    main()
