"""Pictures that stand where they must not: copies are found, other pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image

from compat import leakage
from compat.errors import DataError
from compat.leakage import MAX_LEVELS, Pictures, Repeat, find_repeats, judge_leakage


def drawn(seed: int) -> Image.Image:
    """A coarse picture with detail on it, 128 x 96."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((128, 96), Image.Resampling.BICUBIC))
    noise = rng.normal(scale=8, size=large.shape)
    return Image.fromarray((large + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pictures(*seeds: int, prefix: str = "") -> Pictures:
    return Pictures.of((f"{prefix}{seed}", encoded(drawn(seed))) for seed in seeds)


@pytest.mark.parametrize(
    "copied",
    [
        lambda image: encoded(image),
        lambda image: encoded(image, "JPEG", quality=40),
        lambda image: encoded(image.resize((96, 72)), "JPEG", quality=85),
        lambda image: encoded(image.resize((256, 192)), "WEBP", quality=60),
    ],
)
def test_attack_a_copy_is_found_however_it_is_encoded(copied):
    image = drawn(5)
    held = Pictures.of([("query", copied(image))])
    [found] = find_repeats(held, pictures(*range(8), prefix="train-"))
    same = copied(image) == encoded(image)
    assert found == Repeat("query", "train-5", same_bytes=same)


def test_other_pictures_are_no_copies():
    assert find_repeats(pictures(*range(20)), pictures(*range(100, 160))) == ()


def test_the_search_in_blocks_is_a_pair_by_pair_comparison(monkeypatch):
    """Oracle: every pair, pixel by pixel, in plain Python."""
    held, others = pictures(0, 1, 2, 3, 4, 5), pictures(3, 9, 1, 8, 7)
    expected = []
    for name, a in zip(held.names, held.thumbnails, strict=True):
        for other, b in zip(others.names, others.thumbnails, strict=True):
            mean = sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
            if mean**0.5 <= MAX_LEVELS:
                expected.append(Repeat(name, other, same_bytes=True))
    assert [each.name for each in expected] == ["1", "3"]
    monkeypatch.setattr(leakage, "BLOCK_VALUES", 1)
    assert list(find_repeats(held, others)) == expected


def test_equal_bytes_do_not_hide_a_copy_beside_them():
    image = drawn(1)
    others = Pictures.of([("twin", encoded(image, "JPEG", quality=95)), ("same", encoded(image))])
    assert find_repeats(Pictures.of([("query", encoded(image))]), others) == (
        Repeat("query", "same", same_bytes=True),
        Repeat("query", "twin", same_bytes=False),
    )


def test_nothing_to_compare_is_nothing_found():
    assert find_repeats(pictures(), pictures(1)) == find_repeats(pictures(1), pictures()) == ()


def leaks(count: int, *, same_bytes: bool = False) -> list[Repeat]:
    return [Repeat(f"test-{i}", f"train-{i}", same_bytes) for i in range(count)]


def test_a_clean_set_is_passed_without_a_word():
    assert judge_leakage(trained=[], held_out=100, both_sides=[], queries=50) == ()


def test_a_hundredth_is_said_and_more_is_refused():
    [words] = judge_leakage(trained=leaks(1), held_out=100, both_sides=[], queries=50)
    assert words == "1 of 100 test pictures stand in training too (test-0 is train-0)"
    with pytest.raises(DataError, match="2 of 100 test pictures stand in training too"):
        judge_leakage(trained=leaks(2), held_out=100, both_sides=[], queries=50)


def test_copies_in_the_gallery_are_refused_and_equal_bytes_are_said():
    with pytest.raises(DataError, match="5 of 50 queries stand in the gallery too, encoded anew"):
        judge_leakage(trained=[], held_out=100, both_sides=leaks(5), queries=50)
    [words] = judge_leakage(
        trained=[], held_out=100, both_sides=leaks(50, same_bytes=True), queries=50
    )
    assert "byte for byte, taken out there" in words
