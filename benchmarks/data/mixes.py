"""Pictures of things that do not exist: training images stretched, recoloured and cut together.

A query model that has to land where the gallery model lands learns from any picture that the
gallery model can be asked about. A few hundred objects are few; their mixes are as many as one
likes, and no test class is in them. Cut: arXiv:1905.04899; blend: arXiv:1710.09412.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.data.cache import is_complete, write_atomic
from benchmarks.data.views import encode, view_rng

SIDE_PX = 128
STRETCH = 1.7  # at most, of width to height and back
RECOLOURED, CUT, BLENDED = 0.7, 0.35, 0.15  # shares
SEED = 0
Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]


def mix(first: Image.Image, second: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One new picture of two."""
    a, b = (_bent(picture, rng) for picture in (first, second))
    kind = rng.random()
    if kind < CUT:
        low, high = np.sort(rng.integers(0, SIDE_PX + 1, 2))
        rows = slice(low, high)
        if rng.random() < 0.5:
            a[rows] = b[rows]
        else:
            a[:, rows] = b[:, rows]
    elif kind < CUT + BLENDED:
        share = np.float32(rng.uniform(0.3, 0.7))
        a = share * a + (1 - share) * b
    return Image.fromarray(np.clip(a * 255, 0, 255).astype(np.uint8))


def _bent(picture: Image.Image, rng: np.random.Generator) -> Pixels:
    """Stretched, cropped and recoloured: (128, 128, 3) in [0, 1]."""
    wide, high = picture.size
    zoom, stretch = rng.uniform(0.55, 1.0), np.exp(rng.uniform(-1, 1) * np.log(STRETCH))
    w, h = wide * zoom * min(1.0, stretch), high * zoom * min(1.0, 1 / stretch)
    left, top = rng.uniform(0, wide - w), rng.uniform(0, high - h)
    box = (left, top, left + w, top + h)
    small = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(small, dtype=np.float32) / 255
    if rng.random() < RECOLOURED:
        turn = np.eye(3, dtype=np.float32)[rng.permutation(3)]
        turn = 0.75 * turn + 0.25 * rng.dirichlet(np.ones(3), size=3).astype(np.float32)
        pixels = (pixels @ turn.T) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1].copy()
    return pixels.astype(np.float32, copy=False)


def make_mixes(sources: Sequence[Path], folder: Path, count: int) -> Iterator[Path]:
    """The missing ones of ``count`` mixes of ``sources``; the path of each, in order."""

    def one(number: int) -> Path:
        path = folder / f"{number:06d}.jpg"
        if not is_complete(path):
            rng = view_rng(SEED, "mix", str(number))
            first, second = (Image.open(sources[i]) for i in rng.integers(0, len(sources), 2))
            write_atomic(path, encode(mix(first, second, rng), "JPEG", 90), durable=False)
        return path

    with ThreadPoolExecutor(cpu_count()) as pool:
        yield from track(pool.map(one, range(count)), "mix", total=count)
