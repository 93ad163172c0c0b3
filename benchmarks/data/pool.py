"""The pretraining pool: every image that may be looked at without its label.

    python -m benchmarks.data.pool --mixes 40000

Training-split images of Objects-820 (with the extra wild views, when rendered) and of Emoji,
crops of the textures that only training objects use, and mixes of all of them. Never an image of a
validation or test class, nor a texture of one. Written to the cache's ``pool.csv``; paths are
relative to it. The column
``licence`` lets a user leave out CC-BY-SA. ``pool-catalogue.csv`` beside it keeps to the training
side of the catalogue-disjoint split (``split_catalogue``; Emoji has no part in it), without mixes,
which show objects of both sides.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.backgrounds import (
    Texture,
    deal_textures,
    near_copies,
    read_picture,
    read_textures,
)
from benchmarks.data.cache import cache_folder, is_complete, write_atomic
from benchmarks.data.catalogue import LIBRARIES, read_furniture
from benchmarks.data.manifest import read_manifest, write_manifest
from benchmarks.data.mixes import make_mixes
from benchmarks.data.objects820 import cells_of, split_furniture
from benchmarks.data.views import encode, view_rng

COLUMNS = ("path", "source", "licence", "split_catalogue")
N_CROPS = 16  # a texture
CROP_PX = 128
SEED = 0
Row = dict[str, str]


def listed_rows(root: Path, manifest: Path, source: str) -> Iterator[Row]:
    """Training rows of another set's manifest, with paths relative to the folder ``root``."""
    if not manifest.is_file():
        return
    for row in read_manifest(manifest):
        if row["split"] == "train":
            yield {
                "path": Path(os.path.relpath(manifest.parent / row["path"], root)).as_posix(),
                "source": source,
                "licence": row.get("licence") or LIBRARIES[row["library"]],
                "split_catalogue": row.get("split_catalogue", ""),
            }


def crop(texture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square part of a texture, a quarter of its shorter side or more: (CROP_PX, CROP_PX)."""
    side = min(texture.size) * float(rng.uniform(0.25, 1.0))
    left = float(rng.uniform(0, texture.width - side))
    top = float(rng.uniform(0, texture.height - side))
    box = (left, top, left + side, top + side)
    return texture.resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC, box=box)


def crop_rows(root: Path, textures: list[tuple[Texture, str]]) -> Iterator[Row]:
    """Make the missing crops of (texture, split_catalogue) pairs; a row for each."""
    for texture, split_catalogue in textures:
        picture: Image.Image | None = None
        name = f"{texture.library}-{texture.look}".lower()
        for number in range(N_CROPS):
            path = root / "pool/textures" / f"{name}-{number:02d}.webp"
            if not is_complete(path):
                picture = picture or read_picture(texture)
                image = crop(picture, view_rng(SEED, name, f"crop-{number:02d}"))
                write_atomic(path, encode(image, "WEBP", 90), durable=False)
            yield {
                "path": path.relative_to(root).as_posix(),
                "source": "texture",
                "licence": LIBRARIES[texture.library],
                "split_catalogue": split_catalogue,
            }


def mixed_rows(root: Path, sources: list[Row], count: int) -> Iterator[Row]:
    """A row for each mix; CC-BY-SA pictures are not mixed with others."""
    usable = [root / row["path"] for row in sources if "SA" not in row["licence"]]
    for path in make_mixes(usable, root / "pool/mixes", count):
        name = path.relative_to(root).as_posix()
        yield {"path": name, "source": "mix", "licence": "CC-BY-4.0", "split_catalogue": ""}


def one_side(rows: Iterable[Row]) -> list[Row]:
    """What a model may see that is tested on catalogues it never saw."""
    return [row for row in rows if row["source"] == "emoji" or row["split_catalogue"] == "train"]


def build(mixes: int) -> Path:
    """Write the list; its path. Sets that were not made yet are left out and said so."""
    root = cache_folder()
    sources = {
        "objects": root / "objects820/128px/manifest.csv",
        "objects-extra": root / "objects820/128px/extra.csv",
        "emoji": root / "emoji/64px/manifest.csv",
    }
    rows = [row for name, path in sources.items() for row in listed_rows(root, path, name)]
    furniture = read_furniture()
    cells = cells_of(furniture, split_furniture(furniture))
    dealt = deal_textures(read_textures(furniture), cells)
    banned = near_copies(dealt)
    train = [
        (texture, catalogue)
        for (split, catalogue), textures in dealt.items()
        if split == "train"
        for texture in textures
        if texture not in banned
    ]
    rows += crop_rows(root, train)
    rows += mixed_rows(root, rows, mixes)
    write_manifest(root / "pool.csv", rows, COLUMNS)
    write_manifest(root / "pool-catalogue.csv", one_side(rows), COLUMNS)
    counted = Counter(row["source"] for row in rows)
    missing = sorted(set(sources) - set(counted))
    said = f"; not made yet: {missing}" if missing else ""
    print(f"{root / 'pool.csv'}: {len(rows)} images {dict(counted)}{said}")
    return root / "pool.csv"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mixes", type=int, default=0)
    build(parser.parse_args().mixes)
