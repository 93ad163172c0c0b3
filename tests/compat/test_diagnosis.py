"""Planted faults in preprocessing are named; equal chains are clean; shares add up."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from compat.diagnosis import Link, Suspect, compare_links, conclude, diagnose_suspect
from compat.diagnosis_section import DiagnosisSection
from compat.errors import UsageError
from compat.preprocess import Floats, Preprocess

RECIPE = Preprocess(
    size_px=24, resize="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
N = 6


def photo(seed: int, turn: int = 1) -> bytes:
    """An oblong JPEG with fine strokes, so that every resize kernel shows."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (150, 100), tuple(int(c) for c in rng.integers(40, 255, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        line = [int(c) for c in rng.integers(0, 150, 4)]
        draw.line(line, fill=tuple(int(c) for c in rng.integers(0, 255, 3)), width=2)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    image.save(buffer, "JPEG", exif=exif, quality=92)
    return buffer.getvalue()


BLOBS = [photo(seed, turn=6 if seed % 2 else 1) for seed in range(N)]


def embed(tensors: Floats) -> Floats:
    """A fixed nonlinear map that sees colour, place and scale: (N, S, S, 3) -> (N, 16) unit."""
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(24 * 24 * 3, 64)) / 40
    hidden = np.maximum(tensors.reshape(len(tensors), -1) @ weights, 0)
    raw = hidden @ rng.normal(size=(64, 16))
    unit: Floats = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit


def upright(blob: bytes, *, turn: bool = True) -> Image.Image:
    """Decoded and padded to a white square, written anew here."""
    image = Image.open(io.BytesIO(blob))
    if turn and image.getexif().get(0x0112) == 6:
        image = image.rotate(-90, expand=True)
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def tensors_of(
    *,
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
    turn: bool = True,
    mean: tuple[float, ...] = RECIPE.mean,
    std: tuple[float, ...] = RECIPE.std,
) -> Floats:
    """What an app computes: its own code, torch's order of operations."""
    images = [upright(blob, turn=turn).resize((24, 24), kernel) for blob in BLOBS]
    unit = np.stack([np.asarray(image) for image in images]) / 255.0
    return ((unit - np.asarray(mean)) / np.asarray(std)).astype(np.float32)


def plain_bilinear() -> Floats:
    """Two taps a side at half-pixel centres, no antialias, written out as a loop."""
    out = np.zeros((N, 24, 24, 3))
    for n, blob in enumerate(BLOBS):
        source = np.asarray(upright(blob)).astype(float)
        side = len(source)
        for y in range(24):
            for x in range(24):
                v, u = (y + 0.5) * side / 24 - 0.5, (x + 0.5) * side / 24 - 0.5
                j, i = int(v), int(u)
                b, a = v - j, u - i
                top = source[j, i] * (1 - a) + source[j, i + 1] * a
                low = source[j + 1, i] * (1 - a) + source[j + 1, i + 1] * a
                out[n, y, x] = top * (1 - b) + low * b
    return ((out / 255 - np.asarray(RECIPE.mean)) / np.asarray(RECIPE.std)).astype(np.float32)


FAULTS = {
    "RGB and BGR swapped": (
        "decode",
        lambda: (
            (tensors_of(mean=(0, 0, 0), std=(1, 1, 1))[..., ::-1] - np.asarray(RECIPE.mean))
            / np.asarray(RECIPE.std)
        ),
    ),
    "EXIF orientation ignored": ("decode", lambda: tensors_of(turn=False)),
    "resized with bilinear instead of bicubic": (
        "resize",
        lambda: tensors_of(kernel=Image.Resampling.BILINEAR),
    ),
    "resized with bilinear without antialias": ("resize", plain_bilinear),
    "mean and std are 0.5, 0.5": (
        "tensor",
        lambda: tensors_of(mean=(0.5,) * 3, std=(0.5,) * 3),
    ),
    "tensor left in 0..255": ("tensor", lambda: tensors_of(mean=(0,) * 3, std=(1 / 255,) * 3)),
    "tensor left in 0..1": ("tensor", lambda: tensors_of(mean=(0,) * 3, std=(1,) * 3)),
}


def diagnosed(kind: str, rows: Floats, tolerance: float) -> DiagnosisSection:
    suspect = Suspect(kind, np.asarray(rows, dtype=np.float32), tolerance)
    return diagnose_suspect(suspect, BLOBS, RECIPE, embed)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_tensors_is_named(fault: str) -> None:
    stage, plant = FAULTS[fault]
    found = diagnosed("tensor", plant(), 0.25)
    named = [cause.name for cause in found.causes if cause.explains]
    if stage == "tensor":  # the fitted line says the same with its numbers
        named = [name for name in named if not name.startswith("another normalisation")]
    assert named[0] == fault
    assert found.first == stage


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_from_embeddings_alone(fault: str) -> None:
    stage, plant = FAULTS[fault]
    found = diagnosed("embedding", embed(np.asarray(plant())), 1e-4)
    assert found.causes[0].name == fault
    assert found.causes[0].explains
    assert found.first == stage


def test_pixels_are_diagnosed_without_a_tensor() -> None:
    own = [np.asarray(upright(blob).resize((24, 24), Image.Resampling.LANCZOS)) for blob in BLOBS]
    found = diagnosed("pixels", np.stack(own), 0.25)
    assert found.first == "resize"
    assert found.suggestion.startswith("resized with lanczos instead of bicubic")


def test_an_unknown_mean_and_std_are_measured() -> None:
    found = diagnosed("tensor", tensors_of(mean=(0.1, 0.2, 0.3), std=(0.6, 0.7, 0.8)), 0.25)
    assert "mean (0.1, 0.2, 0.3), std (0.6, 0.7, 0.8)" in found.suggestion


def test_two_faults_at_once_are_named_together() -> None:
    rows = tensors_of(turn=False, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = diagnosed("embedding", embed(rows), 1e-4)
    assert found.causes[0].name == "EXIF orientation ignored and mean and std are 0.5, 0.5"


def test_a_wrong_kernel_does_not_hide_in_a_wide_tolerance() -> None:
    rows = embed(tensors_of(kernel=Image.Resampling.BILINEAR))
    found = diagnosed("embedding", rows, 0.5)
    assert not found.stages[0].exceeds
    assert found.causes[0].name == "resized with bilinear instead of bicubic"


def test_noise_within_tolerance_is_not_explained_away() -> None:
    noise = np.random.default_rng(3).normal(size=(N, 16)) * 0.01
    found = diagnosed("embedding", embed(tensors_of()) + noise, 0.5)
    assert found.first is None
    assert not found.causes


def test_embeddings_of_any_length_are_called_unnormalised() -> None:
    found = diagnosed("embedding", 3 * embed(tensors_of()), 1e-4)
    assert found.causes[0].name == "embedding not normalised"
    assert found.first == "embedding"


@pytest.mark.parametrize("kind", ["tensor", "embedding"])
def test_the_recipe_done_right_is_clean(kind: str) -> None:
    rows = tensors_of()
    found = diagnosed(kind, embed(rows) if kind == "embedding" else rows, 1e-4)
    assert found.first is None
    assert not found.causes


@pytest.mark.parametrize(("kind", "shape"), [("tensor", (N, 24, 24, 3)), ("embedding", (N, 16))])
def test_noise_is_explained_by_nothing(kind: str, shape: tuple[int, ...]) -> None:
    found = diagnosed(kind, np.random.default_rng(1).normal(size=shape), 1e-4)
    assert found.first == kind
    assert not any(cause.explains for cause in found.causes)
    assert "no known mistake" in found.suggestion


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((N, 3, 24, 24)), "channels last"),
        (np.zeros((N - 1, 24, 24, 3)), "one row an image"),
        (np.full((N, 24, 24, 3), np.nan), "NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows: Floats, words: str) -> None:
    before = rows.copy()
    with pytest.raises(UsageError, match=words):
        diagnosed("tensor", rows, 0.25)
    np.testing.assert_array_equal(rows, before)


def test_shares_of_a_chain_face_an_oracle() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 8))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    one, two = (root + s * rng.normal(size=(5, 8)) for s in (0.01, 0.3))
    one, two = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, two))
    links = [Link("a", None, root), Link("b", "a", one, 0.01), Link("c", "b", two, 0.01)]
    stages = compare_links(links)
    slow = [
        [1 - sum(x * y for x, y in zip(p, q, strict=True)) for p, q in zip(u, v, strict=True)]
        for u, v in ((one, root), (two, one))
    ]
    means = [sum(each) / 5 for each in slow]
    assert [stage.difference for stage in stages] == pytest.approx(means)
    assert [stage.worst for stage in stages] == pytest.approx([max(each) for each in slow])
    assert stages[1].share == pytest.approx(means[1] / sum(means))
    assert conclude(5, stages).first == "c"


def test_links_on_different_images_are_refused() -> None:
    links = [Link("a", None, np.ones((2, 4))), Link("b", "a", np.ones((3, 4)))]
    with pytest.raises(UsageError, match="same images"):
        compare_links(links)
