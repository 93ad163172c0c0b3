"""Real files of every kind that users have, and of kinds that they should not."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from compat.errors import ImageError
from compat.images import MAX_BYTES, decode, read_image

WHITE = (255, 255, 255)


def encoded(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pixel(blob, at=(0, 0)):
    image = decode(blob, "x")
    assert image.mode == "RGB"
    return image.getpixel(at)


def png(width, height, depth, colour, raw, *chunks):
    """A PNG by hand: Pillow cannot write 16-bit colour, nor lie about a size."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(chunk(*each) for each in chunks)
    body += chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def two_halves(width=20, height=10):
    """Left half blue, right half red."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (0, 0, width // 2, height))
    return image


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_keep_every_pixel(form):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 6, size=(9, 7, 3), dtype=np.uint8) * 51  # GIF's palette can hold it
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(np.asarray(decode(encoded(image, form), "x")), pixels)


def test_lossless_webp_and_lossy_jpeg():
    image = two_halves()
    assert pixel(encoded(image, "WEBP", lossless=True)) == (0, 0, 255)
    np.testing.assert_allclose(pixel(encoded(image, "JPEG", quality=95)), (0, 0, 255), atol=8)


def test_cmyk_jpeg_is_no_negative():
    assert pixel(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")) == (255, 0, 0)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    """Pillow's own convert("RGB") clips everything above 255 to white."""
    for form in ("PNG", "TIFF"):
        grey = Image.fromarray(np.array([[0, 256, 40000, 65535]], dtype=np.uint16))
        row = np.asarray(decode(encoded(grey, form), "x"))[0, :, 0]
        assert row.tolist() == [0, 1, 156, 255], form


def test_sixteen_bit_colour_and_alpha():
    colour = (b"\0" + struct.pack(">HHH", 40000, 256, 65535) * 2) * 2
    assert pixel(png(2, 2, 16, 2, colour)) == (156, 1, 255)
    clear = (b"\0" + struct.pack(">HHHH", 40000, 256, 65535, 0) * 2) * 2
    assert pixel(png(2, 2, 16, 6, clear)) == WHITE


def test_black_and_white_and_grey():
    assert pixel(encoded(Image.new("1", (8, 8), 1))) == WHITE
    assert pixel(encoded(Image.new("L", (8, 8), 77))) == (77, 77, 77)


def test_palettes():
    image = Image.new("P", (8, 8), 2)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    assert pixel(encoded(image)) == (0, 0, 255)
    assert pixel(encoded(image, transparency=2)) == WHITE
    half = encoded(image, transparency=bytes([255, 255, 128]))
    np.testing.assert_allclose(pixel(half), (127, 127, 255), atol=1)
    assert pixel(encoded(image, "GIF", transparency=2)) == WHITE


@pytest.mark.parametrize(
    ("mode", "colour", "options"),
    [
        ("RGBA", (10, 20, 30, 0), {}),
        ("LA", (10, 0), {}),
        ("RGB", (7, 8, 9), {"transparency": (7, 8, 9)}),
        ("L", 7, {"transparency": 7}),
    ],
)
def test_what_is_transparent_is_white(mode, colour, options):
    assert pixel(encoded(Image.new(mode, (8, 8), colour), **options)) == WHITE


def test_half_transparent_is_mixed_with_white():
    mixed = pixel(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    np.testing.assert_allclose(mixed, (127, 127, 127), atol=1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(form, orientation):
    """All eight orientations, against Pillow's own transposition."""
    image = Image.new("RGB", (24, 16), "white")
    image.paste("red", (0, 0, 8, 8))
    image.paste("blue", (16, 8, 24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    blob = encoded(image, form, exif=exif)
    with Image.open(io.BytesIO(blob)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    upright = decode(blob, "x")
    assert upright.size == ((24, 16) if orientation < 5 else (16, 24))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(expected))


def test_a_photograph_with_damaged_metadata_is_still_a_photograph():
    """Good pixels, a good orientation, and a maker's tag that Pillow cannot write again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    blob = encoded(two_halves(), "JPEG", exif=exif)
    damaged = blob.replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02", 1)  # text as the width
    assert damaged != blob
    assert decode(damaged, "x").size == (10, 20)


def test_animations_give_their_first_frame():
    first, second = two_halves(), Image.new("RGB", (20, 10), "green")
    for form, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        blob = encoded(first, form, save_all=True, append_images=[second], **options)
        assert pixel(blob) == (0, 0, 255), form


def test_a_phone_s_multi_picture_gives_its_first_picture():
    blob = encoded(two_halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (20, 10))])
    np.testing.assert_allclose(pixel(blob), (0, 0, 255), atol=20)


def test_one_pixel_is_an_image():
    assert pixel(encoded(Image.new("RGB", (1, 1), "red"))) == (255, 0, 0)


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image of JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is not an image of|damaged"),
        (encoded(two_halves(400, 300), "JPEG")[:-300], "damaged or truncated"),
        (encoded(two_halves(), "WEBP")[:-10], "damaged or truncated|is not an image"),
        (encoded(two_halves())[:60], "damaged or truncated"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "no agreed range"),
        (encoded(two_halves(), "PPM"), "is not an image of JPEG"),
        (png(0, 5, 8, 2, b""), "is not an image|damaged"),
        (png(11_000, 10_000, 8, 2, b""), r"11000 x 10000 pixels, more than 100 million"),
        (png(60_000, 60_000, 8, 2, b""), "too many pixels"),
        (png(2**31 - 1, 2**31 - 1, 8, 2, b""), "too many pixels"),
        (png(20_000, 2, 8, 2, b""), "20000 x 2 pixels, a side of more than 16384"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_by_name(blob, words):
    with pytest.raises(ImageError, match=rf"^photos/x\.jpg .*({words})"):
        decode(blob, "photos/x.jpg")


def test_attack_a_file_of_too_many_bytes(tmp_path):
    with pytest.raises(ImageError, match="64 MiB"):
        decode(bytes(MAX_BYTES + 1), "x")
    file = tmp_path / "x.png"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match="refusing to read"):
        read_image(file)


def test_a_missing_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path / "nobody.png")


def test_attack_damaged_bytes_raise_nothing_but_an_image_error(capfd):
    """Bits flipped and ends cut off in every format; warnings are errors here, so none leaks."""
    rng = random.Random(0)
    noise = np.random.default_rng(0).integers(0, 256, size=(24, 32, 3), dtype=np.uint8)
    image, exif = Image.fromarray(noise), Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    seeds = [encoded(image, form, exif=exif) for form in ("JPEG", "PNG", "WEBP", "TIFF")]
    seeds += [encoded(image, form) for form in ("BMP", "GIF")]
    seeds += [encoded(image, "TIFF", compression="tiff_lzw"), encoded(image.convert("P"))]
    seeds += [encoded(image, "MPO", save_all=True, append_images=[image])]
    refusals = []
    for _ in range(1500):
        blob = bytearray(rng.choice(seeds))
        if rng.random() < 0.2:
            del blob[rng.randrange(len(blob)) :]
        for _ in range(rng.choice((1, 2, 8)) if blob else 0):
            blob[rng.randrange(min(len(blob), 400))] = rng.choice((0, 1, 255, rng.randrange(256)))
        try:
            assert decode(bytes(blob), "x").mode == "RGB"
        except ImageError as error:
            refusals.append(str(error))
    assert 300 < len(refusals) < 1400
    assert all(refusal.startswith("x ") for refusal in refusals)
    capfd.readouterr()  # libtiff speaks on stderr by itself
