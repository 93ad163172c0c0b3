"""The contact sheet: right and wrong can be told apart without colour, and bad images are named."""

import io

import numpy as np
import pytest
from PIL import Image

from compat.contact_sheet import SheetHit, SheetRow, contact_sheet
from compat.errors import ImageError, UsageError


def picture(colour="blue", size=(40, 30)):
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "PNG")
    return target.getvalue()


def row(*relevant, label="chair"):
    return SheetRow(picture(), label, [SheetHit(picture("white"), label, 0.5, r) for r in relevant])


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=np.int16)


def test_same_rows_same_bytes():
    assert contact_sheet([row(True, False)], "t") == contact_sheet([row(True, False)], "t")


def test_right_and_wrong_differ_in_grey_too():
    """By the sign, not by the hue: the disc's inner pixels differ where check and cross differ."""
    right, wrong = opened(contact_sheet([row(True)], "t")), opened(contact_sheet([row(False)], "t"))
    assert right.shape == wrong.shape
    assert (np.abs(right - wrong) > 100).sum() > 20


def test_only_the_top_five_are_shown():
    assert contact_sheet([row(*[True] * 5)], "t") == contact_sheet([row(*[True] * 9)], "t")


def test_fewer_hits_and_none():
    assert (
        opened(contact_sheet([row(True), row()], "t")).shape[0]
        > opened(contact_sheet([row()], "t")).shape[0]
    )


def test_long_words_end_in_an_ellipsis_and_newlines_do_not_break_out():
    short, long = (
        contact_sheet([row(True)], "t"),
        contact_sheet([row(True, label="x\n" * 999)], "t"),
    )
    assert opened(short).shape == opened(long).shape


def test_a_bad_image_is_named():
    spoilt = SheetRow(picture(), "l", [SheetHit(b"not an image", "l", 0.1, True)])
    with pytest.raises(ImageError, match="hit 1 of row 2"):
        contact_sheet([row(True), spoilt], "t")


@pytest.mark.parametrize("n", [0, 51])
def test_too_few_or_too_many_rows(n):
    with pytest.raises(UsageError, match="1 to 50"):
        contact_sheet([row(True)] * n, "t")
