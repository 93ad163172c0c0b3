"""Evidence that proves something, or is refused."""

import numpy as np
import pytest

from compat.errors import DataError
from compat.evidence import EvidenceSet, LabelledImages, decode_all
from compat.preprocess import Preprocess


def images(count, name="x"):
    return LabelledImages(
        names=tuple(f"{name}{i}" for i in range(count)),
        images=tuple(f"{name}{i}".encode() for i in range(count)),
        labels=tuple(str(i % 3) for i in range(count)),
    )


def test_names_images_and_labels_must_correspond():
    with pytest.raises(DataError, match="2 names, 1 images and 2 labels"):
        LabelledImages(names=("a", "b"), images=(b"a",), labels=("1", "2"))


def test_no_query_proves_nothing():
    with pytest.raises(DataError, match="no query image"):
        EvidenceSet(images(0), images(20), dataset_digest="d" * 64, split="test")


def test_attack_a_gallery_of_ten_where_noise_has_a_hit_rate_at_10_of_one():
    with pytest.raises(DataError, match="10 gallery images"):
        EvidenceSet(images(5), images(10), dataset_digest="d" * 64, split="test")
    EvidenceSet(images(5), images(11), dataset_digest="d" * 64, split="test")


def test_equal_bytes_are_one_image_whatever_their_name():
    evidence = EvidenceSet(images(5), images(20), dataset_digest="d" * 64, split="test")
    both = evidence.relevance()
    assert both.same.of(3).tolist() == [3]
    assert 3 not in both.of(3)
    assert both.of(3).tolist() == [0, 6, 9, 12, 15, 18]
    assert (
        EvidenceSet(images(5, "q"), images(20), dataset_digest="d" * 64, split="test")
        .relevance()
        .same
        is None
    )


def test_decoded_pixels_are_the_recipe_s(drawn):
    recipes = [Preprocess(size_px=8), Preprocess(size_px=12, resize="box"), Preprocess(size_px=8)]
    pixels = decode_all(drawn.evidence, recipes)
    assert list(pixels) == recipes[:2]
    for recipe, sides in pixels.items():
        for blob, rows in zip(drawn.evidence.gallery.images, sides.gallery, strict=True):
            np.testing.assert_array_equal(rows, recipe.pixels(blob))
        assert sides.queries.shape == (48, recipe.size_px, recipe.size_px, 3)
