"""Which drawings make a class, and how one is drawn."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.emoji import (
    STYLES,
    choose_classes,
    common_name,
    draw,
    drawings_of,
    group_names,
    is_dropped,
    split_labels,
)

COLOUR = frozenset({"a", "b", "c"})


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("waving-hand-medium-dark-skin-tone", True),
        ("waving-hand-light", True),
        ("handshake-light-medium-dark", True),
        ("handshake-tone3", True),
        ("family-man-boy", True),
        ("family", False),
        ("headstone", False),
        ("light-bulb", False),
        ("police-car-light", False),
        ("horizontal-traffic-light", False),
        ("black-medium-square", False),
    ],
)
def test_skin_tones_and_families_are_dropped(name, dropped):
    names = {"waving-hand", "waving-hand-light", "waving-hand-dark", "police-car", name}
    assert is_dropped(name, names) is dropped


def test_aliases_share_a_drawing_and_mirrored_ones_are_left_out():
    found = drawings_of(
        {
            "icons": {"bear": {"body": "<g/>"}, "bear-tone1": {"body": "<p/>"}},
            "aliases": {
                "bear-face": {"parent": "bear"},
                "bear-right": {"parent": "bear", "hFlip": True},
            },
            "width": 8,
            "height": 9,
        }
    )
    assert set(found) == {"bear", "bear-face"}
    assert 'viewBox="0 0 8 9"' in found["bear"]


def test_flags_are_spelt_one_way():
    names = ["flag-for-flag-peru", "flag-for-peru", "flag-peru"]
    assert {common_name(name) for name in names} == {"flag-peru"}


def test_a_white_drawing_is_not_lost():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2">'
        '<rect width="1" height="1" fill="white"/></svg>'
    )
    pixels = np.asarray(Image.open(io.BytesIO(draw(svg, 16))).convert("L"))
    assert (pixels[3, 3], pixels[12, 12]) == (255, 128)


def test_names_that_one_artist_draws_the_same_are_one_class():
    sets = {"a": {"bear": "1", "bear-face": "1", "cat": "2"}, "mono": {"cat": "3", "dog": "3"}}
    labels = group_names(sets, COLOUR)
    assert labels["bear-face"] == labels["bear"] == "bear"
    assert labels["cat"] != labels["dog"]  # a mono set draws unlike things alike


def test_a_class_needs_three_colour_styles():
    sets = {
        "a": {"x": "1", "y": "2"},
        "b": {"x": "3", "y": "4"},
        "c": {"x": "5"},
        "mono": {"x": "6", "y": "7"},
    }
    chosen = choose_classes(sets, COLOUR)
    assert {style: set(of) for style, of in chosen.items()} == {style: {"x"} for style in sets}


def test_classes_are_split_half_a_tenth_and_the_rest():
    labels = [f"class-{number}" for number in range(100)]
    splits = split_labels(labels)
    assert Counter(splits.values()) == {"train": 50, "val": 10, "test": 40}
    assert splits == split_labels(labels)


def test_no_house_is_on_both_sides():
    roles: dict[str, set[str]] = {}
    for style in STYLES:
        roles.setdefault(style.house, set()).add(style.role)
    assert all(len(found) == 1 for found in roles.values())
    assert {role for found in roles.values() for role in found} == {"query", "gallery"}


def test_a_drawing_is_on_white_and_the_right_way_up():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2">'
        '<rect width="1" height="1" fill="red"/></svg>'
    )
    pixels = np.asarray(Image.open(io.BytesIO(draw(svg, 16))).convert("RGB"))
    assert pixels.shape == (16, 16, 3)
    assert pixels[3, 3].tolist() == [255, 0, 0]
    assert pixels[12, 12].tolist() == pixels[3, 12].tolist() == [255, 255, 255]
