"""Mixes are new pictures, the same ones every time, and show nothing but their sources."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.mixes import SIDE_PX, make_mixes, mix


def test_a_mix_is_a_function_of_its_sources_and_its_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sources = []
    for number in range(3):
        pixels = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
        sources.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(sources[-1])
    first, again = (
        [path.read_bytes() for path in make_mixes(sources, tmp_path / name, 12)]
        for name in ("a", "b")
    )
    assert first == again
    assert len(set(first)) == 12


def test_a_mix_is_square_and_no_copy() -> None:
    flat = [Image.new("RGB", (40, 90), colour) for colour in ("red", "blue")]
    seen = [mix(*flat, np.random.default_rng(seed)) for seed in range(40)]
    assert {picture.size for picture in seen} == {(SIDE_PX, SIDE_PX)}
    colours = {len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) for picture in seen}
    assert 1 in colours  # one source alone, recoloured
    assert 2 in colours  # cut together
