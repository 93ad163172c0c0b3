"""No class, no twin and no background on two sides."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.backgrounds import (
    Texture,
    choices,
    deal_textures,
    is_background,
    near_copies,
    pick,
    picture_look,
    read_textures,
)
from benchmarks.data.catalogue import read_library
from benchmarks.data.splits import near_twins, split_groups

SIZES = {"train": 5, "val": 1, "test": 4}


def texture(name: str, *users: str) -> Texture:
    return Texture("Scopia", name, look=name, users=frozenset(users))


def test_every_item_gets_one_split_of_the_wanted_size_every_time():
    groups = [[n] for n in range(10)]
    sides = split_groups(groups, SIZES, seed=0)
    assert sorted(sides) == list(range(10))
    assert Counter(sides.values()) == SIZES
    assert sides == split_groups(groups, SIZES, seed=0)
    assert sides != split_groups(groups, SIZES, seed=1)


@pytest.mark.parametrize("seed", range(20))
def test_a_group_is_never_parted(seed):
    sides = split_groups([[0, 3], [1, 2], [4, 5], [6], [7], [8], [9]], SIZES, seed)
    assert Counter(sides.values()) == SIZES
    assert sides[0] == sides[3]
    assert sides[1] == sides[2]
    assert sides[4] == sides[5]


def test_sizes_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="do not add up"):
        split_groups([[0], [1]], SIZES, seed=0)


def test_twins_are_found_through_a_third():
    icons = np.zeros((4, 2, 2), dtype=np.float32)
    icons[:, 0, 0] = [0.0, 0.02, 0.04, 0.9]  # 0 and 2 are alike only by way of 1
    assert near_twins(icons, threshold=0.012) == [[0, 1, 2], [3]]


def test_no_background_is_shared_between_cells_and_none_is_the_objects_own():
    cells = {
        "a": ("train", "train"), "b": ("train", "train"), "c": ("test", "train"),
        "d": ("test", "test"),
    }  # fmt: skip
    textures = [
        texture("of a", "a"),
        texture("of a and b", "a", "b"),
        texture("of a and c", "a", "c"),
        texture("of c", "c"),
        texture("of d", "d"),
    ]
    dealt = deal_textures(textures, cells)
    owners = [found.member for cell in dealt.values() for found in cell]
    assert sorted(owners) == ["of a", "of a and b", "of c", "of d"]
    assert [found.member for found in choices(dealt, "b", cells["b"])] == ["of a"]
    assert choices(dealt, "d", cells["d"]) == []


def test_a_banned_background_is_never_picked():
    textures = [texture("x"), texture("y"), texture("z")]
    banned = frozenset(textures[:2])
    rng = np.random.default_rng(0)
    assert {pick(rng, textures, banned).member for _ in range(20)} == {"z"}
    with pytest.raises(ValueError, match="no texture"):
        pick(rng, textures[:2], banned)


def test_a_copy_in_another_cell_is_found(library):
    (found,) = read_textures(list(read_library(library)))
    copy = replace(found, look="taken for another picture")
    train, test = ("train", "train"), ("test", "train")
    assert near_copies({train: [found], test: [copy]}) == {found, copy}
    assert near_copies({train: [found, copy], test: []}) == frozenset()


def test_one_picture_at_two_sizes_has_one_look():
    coarse = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((144, 144), Image.Resampling.NEAREST)
    assert picture_look(large) == picture_look(large.resize((72, 72), Image.Resampling.BOX))
    assert picture_look(large) != picture_look(large.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def test_small_flat_and_clear_pictures_are_no_backgrounds(library):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    picture = Image.fromarray(noise)
    assert is_background(picture)
    assert not is_background(picture.resize((32, 32)))
    assert not is_background(Image.new("RGB", (64, 64), "teal"))
    clear = picture.convert("RGBA")
    clear.putalpha(100)
    assert not is_background(clear)
    (found,) = read_textures(list(read_library(library)))
    assert found.users == {"scopia-card"}
