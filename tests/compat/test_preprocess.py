"""The recipe: frozen pixels, so that no release of a library moves embeddings unseen."""

import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compat.errors import ImageError
from compat.files import digest_of
from compat.preprocess import Preprocess


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pattern(height=37, width=53):
    """A picture with edges and slopes, the same for ever."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [(x * 7 + y * 3) % 256, (x * y) % 256, np.where((x // 5 + y // 5) % 2, 250, 5)]
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (Preprocess(size_px=16), "06e475a01c68f6ce"),
        (Preprocess(size_px=16, resize="box", fit="crop"), "9d79c1f430097716"),
        (Preprocess(size_px=16, resize="bilinear", fit="squash"), "fccbbb0c78fdd141"),
        (Preprocess(size_px=64, resize="lanczos"), "e1edfc7a25f4ad28"),
    ],
)
def test_pixels_are_the_same_for_ever(recipe, digest):
    """When this fails, a library resizes differently: devices would embed other pixels."""
    assert digest_of(recipe.pixels(png(pattern())).tobytes())[:16] == digest


def test_box_resize_is_the_mean_of_blocks():
    pixels = pattern(32, 32)
    expected = pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    got = Preprocess(size_px=8, resize="box").pixels(png(pixels))
    assert np.abs(got - expected).max() <= 1


def test_a_square_of_the_right_size_is_untouched():
    pixels = pattern(24, 24)
    for fit in ("squash", "crop", "pad"):
        np.testing.assert_array_equal(Preprocess(size_px=24, fit=fit).pixels(png(pixels)), pixels)


def test_pad_adds_white_and_keeps_the_aspect():
    black = np.zeros((10, 20, 3), np.uint8)
    got = Preprocess(size_px=20, resize="box", fit="pad").pixels(png(black))
    assert (got[:5] == 255).all()
    assert (got[5:15] == 0).all()
    assert (got[15:] == 255).all()


def test_crop_keeps_the_middle():
    pixels = pattern(10, 20)
    got = Preprocess(size_px=10, fit="crop").pixels(png(pixels))
    np.testing.assert_array_equal(got, pixels[:, 5:15])


def test_squash_changes_the_aspect():
    pixels = np.repeat(np.array([[[0] * 3, [255] * 3]], np.uint8), 2, axis=0).repeat(4, axis=1)
    got = Preprocess(size_px=8, resize="box", fit="squash").pixels(png(pixels))
    assert (got[:, :4] == 0).all()
    assert (got[:, 4:] == 255).all()


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 1, 3), (2, 3, 3)])
def test_every_shape_fits(fit, shape):
    got = Preprocess(size_px=8, fit=fit).pixels(png(np.full(shape, 90, np.uint8)))
    assert got.shape == (8, 8, 3)
    assert got.dtype == np.uint8


def test_normalised_is_the_formula_and_leaves_its_input():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(2, 8, 8, 3), dtype=np.uint8)
    before = pixels.copy()
    recipe = Preprocess(size_px=8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    expected = (pixels.astype(np.float64) / 255 - recipe.mean) / recipe.std
    got = recipe.normalised(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_array_equal(pixels, before)


def test_default_range_is_minus_one_to_one():
    ends = Preprocess(size_px=8).normalised(np.array([[[0, 255, 127]]], np.uint8))
    np.testing.assert_allclose(ends[0, 0, :2], (-1, 1), atol=1e-6)


def test_a_batch_is_its_images():
    rng = np.random.default_rng(0)
    recipe, pixels = Preprocess(size_px=8), rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    whole = recipe.normalised(pixels)
    np.testing.assert_array_equal(whole, np.stack([recipe.normalised(each) for each in pixels]))
    np.testing.assert_array_equal(whole[3], recipe.tensor(png(pixels[3])))


def test_a_bad_image_is_named():
    with pytest.raises(ImageError, match=r"sofa\.jpg"):
        Preprocess(size_px=8).tensor(b"no", "sofa.jpg")


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": 4},
        {"size_px": 4096},
        {"resize": "nearest"},
        {"fit": "stretch"},
        {"sise_px": 8},
        {"format": 2},
        {"mean": (0.5, 0.5)},
    ],
)
def test_what_is_no_recipe_is_refused(change):
    with pytest.raises(ValidationError):
        Preprocess(**{"size_px": 8} | change)


def test_a_recipe_survives_json_and_is_a_key():
    recipe = Preprocess(size_px=96, mean=(0.1, 0.2, 0.3))
    assert Preprocess.model_validate_json(recipe.model_dump_json()) == recipe
    assert {recipe: 1}[Preprocess(size_px=96, mean=(0.1, 0.2, 0.3))] == 1
