"""The golden set: images with the tensors and embeddings that they must give, on every device.

A member's golden set travels in the release. After download and before the switch, a device runs it
on its own runtime; the decision is here, the running is in ``edge``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from compat.embedding import Embedder, cosine_rows
from compat.errors import AdmissionError, UntrustedError, UsageError
from compat.preprocess import Floats, Pixels

MAX_GOLDEN_BYTES = 32 * 2**20


@dataclass(frozen=True)
class GoldenSet:
    """K encoded images, their pixels after the recipe and their embeddings per artifact."""

    images: tuple[bytes, ...]  # K encoded images
    pixels: Pixels  # (K, S, S, 3)
    embeddings: Mapping[str, Floats]  # artifact digest -> (K, D), rows of L2 norm 1

    def to_bytes(self) -> bytes:
        """safetensors: no code, no pickle, one spelling."""
        ends = np.cumsum([len(image) for image in self.images], dtype=np.int64)
        tensors: dict[str, npt.NDArray[Any]] = {
            "image_bytes": np.frombuffer(b"".join(self.images), dtype=np.uint8),
            "image_ends": ends,
            "pixels": np.ascontiguousarray(self.pixels),
        }
        tensors |= {f"embeddings.{digest}": rows for digest, rows in self.embeddings.items()}
        return safetensors.numpy.save(tensors)

    @classmethod
    def from_bytes(cls, blob: bytes) -> "GoldenSet":
        """Raises UntrustedError when the bytes are no golden set."""
        try:
            return _golden_set(safetensors.numpy.load(blob))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UntrustedError(f"not a golden set that this version reads: {error}") from error


def _golden_set(tensors: Mapping[str, npt.NDArray[Any]]) -> GoldenSet:
    """Raises KeyError or ValueError when the tensors do not fit together."""
    joined, ends, pixels = tensors["image_bytes"], tensors["image_ends"], tensors["pixels"]
    if ends.dtype != np.int64 or ends.ndim != 1 or not len(ends):
        raise ValueError("the ends of its images are no list of whole numbers")
    if np.diff(ends, prepend=0).min() < 0 or ends[-1] != joined.nbytes:
        raise ValueError("the ends of its images do not fit their bytes")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != len(ends):
        raise ValueError(f"its pixels are {pixels.dtype} {pixels.shape}")
    prefix = "embeddings."
    embeddings = {
        name.removeprefix(prefix): rows for name, rows in tensors.items() if name.startswith(prefix)
    }
    for digest, rows in embeddings.items():
        if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(ends):
            raise ValueError(f"its embeddings of {digest[:12]} are {rows.dtype} {rows.shape}")
    images = joined.tobytes()
    return GoldenSet(
        images=tuple(images[a:b] for a, b in pairwise([0, *ends.tolist()])),
        pixels=pixels,
        embeddings=embeddings,
    )


@dataclass(frozen=True)
class GoldenCheck:
    """How far this device is from where the artifact was verified."""

    images: int
    pixels_max_error: int  # of 255; 0 = the recipe ran bit for bit
    cosine_min: float
    cosine_mean: float


def run_golden(golden: GoldenSet, artifact_digest: str, embedder: Embedder) -> GoldenCheck:
    """Decode, preprocess and embed the golden images here, compare with what is expected.

    Raises:
        UntrustedError: the golden set does not speak of this artifact.
        AdmissionError: this device cannot decode the images, or its embeddings have no cosine (NaN,
            zero, another dimension). Keep the old release.
    """
    expected = golden.embeddings.get(artifact_digest)
    if expected is None or not golden.images:
        raise UntrustedError(f"the golden set says nothing of artifact {artifact_digest[:12]}")
    try:
        return _compare(golden, expected, embedder)
    except UsageError as error:
        raise AdmissionError(f"this device fails its golden images: {error}") from error


def _compare(golden: GoldenSet, expected: Floats, embedder: Embedder) -> GoldenCheck:
    pixels = np.stack(
        [
            embedder.preprocess.pixels(blob, f"golden image {i}")
            for i, blob in enumerate(golden.images)
        ]
    )  # (K, S, S, 3)
    if pixels.shape != golden.pixels.shape:
        raise UntrustedError(
            f"golden pixels are {golden.pixels.shape}, the recipe gives {pixels.shape}"
        )
    cosines = cosine_rows(embedder.embed(embedder.preprocess.normalised(pixels)), expected)  # (K,)
    error = np.abs(pixels.astype(np.int16) - golden.pixels.astype(np.int16)).max()
    return GoldenCheck(len(pixels), int(error), float(cosines.min()), float(cosines.mean()))


PIXELS_MAX_ERROR = 4  # of 255: decoders of lossy formats may differ by this much, resizers more


def admit(check: GoldenCheck, admission_cosine: float) -> None:
    """Return when a device may run an artifact.

    Raises:
        AdmissionError: it computes something else than what was verified. Keep the old release.
    """
    if check.pixels_max_error > PIXELS_MAX_ERROR:
        raise AdmissionError(
            f"preprocessing differs by {check.pixels_max_error} of 255 from what was verified "
            f"(at most {PIXELS_MAX_ERROR} is allowed): this device would embed other pixels"
        )
    if not check.cosine_min >= admission_cosine:
        raise AdmissionError(
            f"golden embeddings reach cosine {check.cosine_min:.4f} on this device, "
            f"{admission_cosine:.4f} is needed: its runtime computes another function"
        )
