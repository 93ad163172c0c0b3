"""The golden set: a device checks itself, and is not fooled by a set that was tampered with."""

import io
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from compat.errors import AdmissionError, UntrustedError
from compat.golden import GoldenCheck, GoldenSet, admit, run_golden
from compat.preprocess import Preprocess

DIGEST = "a" * 64


@pytest.fixture
def golden(drawn):
    images = drawn.evidence.queries.images[:6]
    embedder = drawn.member_embedder
    pixels = np.stack([embedder.preprocess.pixels(image) for image in images])
    embeddings = embedder.embed(embedder.preprocess.normalised(pixels))
    return GoldenSet(images=images, pixels=pixels, embeddings={DIGEST: embeddings})


def test_bytes_and_back(golden):
    again = GoldenSet.from_bytes(golden.to_bytes())
    assert again.images == golden.images
    np.testing.assert_array_equal(again.pixels, golden.pixels)
    np.testing.assert_array_equal(again.embeddings[DIGEST], golden.embeddings[DIGEST])
    assert again.to_bytes() == golden.to_bytes()


def test_the_device_that_it_was_made_on_is_admitted(golden, drawn):
    check = run_golden(golden, DIGEST, drawn.member_embedder)
    assert (check.images, check.pixels_max_error) == (6, 0)
    assert check.cosine_min > 0.99999
    admit(check, 0.9999)


def test_attack_other_weights_behind_the_same_interface(golden, drawn):
    other = replace(drawn.member_embedder, matrix=drawn.member_embedder.matrix[::-1])
    check = run_golden(golden, DIGEST, other)
    with pytest.raises(AdmissionError, match="computes another function"):
        admit(check, 0.95)


def test_attack_a_resizer_that_differs(drawn):
    """A large picture, so that the two kernels give other pixels."""
    recipe = Preprocess(size_px=8, resize="bicubic")
    image = drawn.evidence.queries.images[0]
    smaller = Preprocess(size_px=24, resize="bicubic")
    blob = _png(smaller.pixels(image))
    pixels = recipe.pixels(blob)[None]
    embedder = replace(drawn.member_embedder, preprocess=recipe)
    expected = embedder.embed(recipe.normalised(pixels))
    golden = GoldenSet(images=(blob,), pixels=pixels, embeddings={DIGEST: expected})
    admit(run_golden(golden, DIGEST, embedder), 0.999)
    device = replace(embedder, preprocess=Preprocess(size_px=8, resize="box"))
    with pytest.raises(AdmissionError, match="preprocessing differs by"):
        admit(run_golden(golden, DIGEST, device), 0.0)


def _png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def broken_nan(rows):
    rows[2] = np.nan
    return rows


@pytest.mark.parametrize(
    "spoil", [broken_nan, lambda rows: rows * np.float32(0), lambda rows: rows[:, :4]]
)
def test_a_runtime_that_gives_no_embedding_is_not_admitted(golden, drawn, spoil):
    with pytest.raises(AdmissionError, match="this device fails its golden images"):
        run_golden(golden, DIGEST, drawn.spoilt(spoil).embedder)


def test_a_device_that_cannot_decode_is_not_admitted(golden, drawn):
    damaged = replace(golden, images=(b"\x89PNG", *golden.images[1:]))
    with pytest.raises(AdmissionError, match="golden image 0"):
        run_golden(damaged, DIGEST, drawn.member_embedder)


def test_a_set_that_does_not_speak_of_the_artifact_is_not_trusted(golden, drawn):
    with pytest.raises(UntrustedError, match="says nothing of artifact bbbb"):
        run_golden(golden, "b" * 64, drawn.member_embedder)


def test_attack_an_empty_set_would_admit_everything(drawn):
    empty = GoldenSet(
        images=(),
        pixels=np.zeros((0, 8, 8, 3), np.uint8),
        embeddings={DIGEST: np.zeros((0, 16), np.float32)},
    )
    with pytest.raises(UntrustedError, match="says nothing"):
        run_golden(empty, DIGEST, drawn.member_embedder)


def test_a_recipe_of_another_size_is_not_trusted(golden, drawn):
    other = replace(drawn.member_embedder, preprocess=Preprocess(size_px=16))
    with pytest.raises(UntrustedError, match="the recipe gives"):
        run_golden(golden, DIGEST, other)


@pytest.mark.parametrize(
    ("check", "bound", "admitted"),
    [
        (GoldenCheck(4, 0, 0.99, 1.0), 0.99, True),
        (GoldenCheck(4, 4, 1.0, 1.0), 0.99, True),
        (GoldenCheck(4, 5, 1.0, 1.0), 0.99, False),
        (GoldenCheck(4, 0, 0.9899, 1.0), 0.99, False),
        (GoldenCheck(4, 0, float("nan"), 1.0), 0.99, False),
    ],
)
def test_admission_at_its_edges(check, bound, admitted):
    if admitted:
        admit(check, bound)
    else:
        with pytest.raises(AdmissionError):
            admit(check, bound)


@pytest.mark.parametrize(
    "change",
    [
        {"image_ends": np.array([[1, 2]])},
        {"image_ends": np.array([1.0, 2.0])},
        {"image_ends": np.array(2)},
        {"image_ends": np.zeros(0, np.int64)},
        {"image_ends": np.array([-1, 2])},
        {"image_ends": np.array([2, 1])},
        {"image_ends": np.array([1, 10**12])},
        {"image_ends": np.array([1, 1])},
        {"image_ends": None},
        {"image_bytes": None},
        {"pixels": None},
        {"pixels": np.zeros((2, 8, 8, 3), np.float32)},
        {"pixels": np.zeros((3, 8, 8, 3), np.uint8)},
        {f"embeddings.{DIGEST}": np.zeros((3, 4), np.float32)},
        {f"embeddings.{DIGEST}": np.zeros(2, np.float32)},
        {f"embeddings.{DIGEST}": np.zeros((2, 4), np.int64)},
    ],
    ids=str,
)
def test_attack_tensors_that_do_not_fit_together(change):
    tensors = {
        "image_bytes": np.frombuffer(b"ab", np.uint8),
        "image_ends": np.array([1, 2]),
        "pixels": np.zeros((2, 8, 8, 3), np.uint8),
        f"embeddings.{DIGEST}": np.ones((2, 4), np.float32),
    }
    GoldenSet.from_bytes(safetensors.numpy.save(tensors))
    spoilt = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    with pytest.raises(UntrustedError, match="not a golden set"):
        GoldenSet.from_bytes(safetensors.numpy.save(spoilt))


@pytest.mark.parametrize("blob", [b"", b"\0" * 8, b"\xff" * 64, b"PK\x03\x04", b"{}"])
def test_attack_bytes_that_are_no_tensors(blob):
    with pytest.raises(UntrustedError, match="not a golden set"):
        GoldenSet.from_bytes(blob)


def test_a_cut_off_set_is_not_trusted(golden):
    blob = golden.to_bytes()
    for length in (7, 100, len(blob) - 1):
        with pytest.raises(UntrustedError):
            GoldenSet.from_bytes(blob[:length])
