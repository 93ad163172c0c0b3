"""Corruptions: deterministic, of the shape they got, and worse with every level."""

import numpy as np
import pytest

from compat.corruptions import CORRUPTIONS, LEVELS, brightness, crop, grey

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photo():
    """Smooth shapes with edges and colour, 48 px."""
    y, x = np.mgrid[0:48, 0:48] / 48
    image = np.stack([200 * x, 255 * (y > 0.5), 80 + 100 * np.sin(9 * x * y)], axis=-1)
    return np.rint(image.clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_is_further_from_the_clean_image(name, photo):
    before = photo.copy()
    spoilt = [CORRUPTIONS[name](photo, level) for level in range(1, LEVELS + 1)]
    assert (photo == before).all()  # the input stays
    for again, one in enumerate(spoilt, 1):
        assert one.shape == photo.shape
        assert one.dtype == np.uint8
        assert (CORRUPTIONS[name](photo, again) == one).all()
    away = [np.abs(one.astype(int) - photo).mean() for one in spoilt]
    assert away == sorted(away)
    assert away[0] > 0.1


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [0, LEVELS + 1])
def test_another_severity_does_not_exist(name, level, photo):
    with pytest.raises(ValueError, match="severities are 1 to 5"):
        CORRUPTIONS[name](photo, level)


def test_a_few_against_their_meaning(photo):
    assert brightness(photo, 5).max() == round(255 * 0.25)
    colourless = grey(photo, 5)
    assert (colourless.max(axis=2) - colourless.min(axis=2)).max() <= 1
    middle = np.zeros((50, 50, 3), np.uint8)
    middle[10:40, 10:40] = 255  # the part that the closest crop keeps
    assert crop(middle, 5)[2:-2, 2:-2].min() > 250
