"""What apps get wrong between an image and a tensor, each as a runnable alternative to the recipe.

An alternative is tried by running it on the reference images and seeing whether it gives what the
suspect gave (`compat.diagnosis.explain`); nothing is guessed from the numbers' looks.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from compat.images import decode
from compat.preprocess import Floats, Preprocess

ToPixels = Callable[[bytes, Preprocess], Floats]  # encoded image -> (S, S, 3), 0..255
ToTensor = Callable[[Floats, Preprocess], Floats]  # (N, S, S, 3), 0..255 -> same shape
_KERNELS = ("box", "bilinear", "bicubic", "lanczos")
_FITS = ("squash", "crop", "pad")
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@dataclass(frozen=True)
class Hypothesis:
    """One way to leave the recipe, and the stage of the chain at which it does."""

    name: str
    stage: Literal["decode", "resize", "tensor"]
    cure: str
    pixels: ToPixels | None = None  # None = as the recipe
    tensor: ToTensor | None = None  # None = as the recipe


def recipe_pixels(blob: bytes, recipe: Preprocess) -> Floats:
    """Encoded image -> (S, S, 3) float32 in 0..255, by the recipe itself."""
    return recipe.pixels(blob).astype(np.float32)


def recipe_tensor(pixels: Floats, recipe: Preprocess) -> Floats:
    """(N, S, S, 3), 0..255 -> same shape, normalised by the recipe itself."""
    scale = 255.0 * np.asarray(recipe.std)
    tensor: Floats = (pixels / scale - np.asarray(recipe.mean) / recipe.std).astype(np.float32)
    return tensor


def hypotheses(recipe: Preprocess) -> tuple[Hypothesis, ...]:
    """Every alternative to ``recipe`` that differs from it, in the order of the chain."""
    return (*_decoding(), *_resizing(recipe), *_normalising(recipe))


def _decoding() -> tuple[Hypothesis, ...]:
    return (
        Hypothesis(
            "RGB and BGR swapped",
            "decode",
            "hand the model red, green, blue in this order",
            lambda blob, recipe: recipe_pixels(blob, recipe)[..., ::-1],
        ),
        Hypothesis(
            "EXIF orientation ignored",
            "decode",
            "turn the image as its EXIF orientation says before it is resized",
            _without_turn,
        ),
    )


def _resizing(recipe: Preprocess) -> tuple[Hypothesis, ...]:
    found = [
        Hypothesis(
            f"resized with {kernel} instead of {recipe.resize}",
            "resize",
            f"resize with the {recipe.resize} kernel, antialiased",
            _as(recipe.model_copy(update={"resize": kernel})),
        )
        for kernel in _KERNELS
        if kernel != recipe.resize
    ]
    unfiltered = {
        "nearest neighbour": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
    }
    found += [
        Hypothesis(
            f"resized with {name} without antialias",
            "resize",
            f"switch antialias on: resize with {recipe.resize}, its support grown with the scale",
            _sampled(kernel),
        )
        for name, kernel in unfiltered.items()
    ]
    found += [
        Hypothesis(
            f"fitted by {fit} instead of {recipe.fit}",
            "resize",
            f"fit oblong images to the square by {recipe.fit}",
            _as(recipe.model_copy(update={"fit": fit})),
        )
        for fit in _FITS
        if fit != recipe.fit
    ]
    return tuple(found)


def _normalising(recipe: Preprocess) -> tuple[Hypothesis, ...]:
    cure = f"normalise as (p / 255 - mean) / std, mean {recipe.mean}, std {recipe.std}"
    found = [
        Hypothesis("tensor left in 0..255", "tensor", cure, tensor=lambda p, _: p),
        Hypothesis("tensor left in 0..1", "tensor", cure, tensor=lambda p, _: p / np.float32(255)),
        Hypothesis(
            "0..255 taken for 0..1", "tensor", cure, tensor=lambda p, r: recipe_tensor(p * 255, r)
        ),
        Hypothesis(
            "0..1 taken for 0..255",
            "tensor",
            cure,
            tensor=lambda p, r: recipe_tensor(p / np.float32(255), r),
        ),
    ]
    for name, values in (("ImageNet's", _IMAGENET), ("0.5, 0.5", _HALVES)):
        if (recipe.mean, recipe.std) != (values["mean"], values["std"]):
            other = recipe.model_copy(update=values)
            found.append(Hypothesis(f"mean and std are {name}", "tensor", cure, tensor=_by(other)))
    return tuple(found)


def _as(other: Preprocess) -> ToPixels:
    return lambda blob, _: recipe_pixels(blob, other)


def _by(other: Preprocess) -> ToTensor:
    return lambda pixels, _: recipe_tensor(pixels, other)


def _without_turn(blob: bytes, recipe: Preprocess) -> Floats:
    with Image.open(io.BytesIO(blob)) as image:
        return recipe.fitted(image.convert("RGB")).astype(np.float32)


def _sampled(kernel: Image.Resampling) -> ToPixels:
    """Resize by sampling at pixel centres, whatever the scale: what a GPU's sampler does."""

    def pixels(blob: bytes, recipe: Preprocess) -> Floats:
        image = decode(blob, "image")
        if recipe.fit != "squash":
            side = max(image.size) if recipe.fit == "pad" else min(image.size)
            whole = recipe.model_copy(update={"size_px": side})  # the square, not yet resized
            image = Image.fromarray(whole.fitted(image))
        size = (recipe.size_px, recipe.size_px)
        steps = (image.width / recipe.size_px, 0, 0, 0, image.height / recipe.size_px, 0)
        sampled = image.transform(size, Image.Transform.AFFINE, steps, resample=kernel)
        return np.asarray(sampled, dtype=np.float32)

    return pixels
