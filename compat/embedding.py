"""What an embedder is, and the one check that embeddings pass at every public door."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from compat.errors import UsageError
from compat.preprocess import Floats, Preprocess


class Embedder(Protocol):
    """A model with its recipe, ready to run; training, verification and device mean this one."""

    @property
    def preprocess(self) -> Preprocess: ...

    @property
    def dim(self) -> int: ...

    def embed(self, tensors: Floats) -> Floats:
        """(N, S, S, 3) float32 normalised by `preprocess` -> (N, D) float32, rows of L2 norm 1."""
        ...


def embed_pixels(
    embedder: Embedder, pixels: npt.NDArray[np.uint8], *, batch: int = 64
) -> Iterator[Floats]:
    """(N, S, S, 3) uint8 -> (n, D) embeddings, batch by batch: the caller shows the progress."""
    for start in range(0, len(pixels), batch):
        yield embedder.embed(embedder.preprocess.normalised(pixels[start : start + batch]))


def unit_rows(raw: npt.NDArray[Any], what: str) -> Floats:
    """(N, D) -> (N, D) float32 with rows of L2 norm 1.

    Raises:
        UsageError: a row is not finite or is zero: it has no direction and must not be compared.
    """
    norms = np.sqrt(np.sum(np.square(raw, dtype=np.float64), axis=1))  # (N,)
    bad = ~np.isfinite(norms) | (norms < 1e-12)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UsageError(f"{what}: row {row} of {len(raw)} is zero or not finite")
    unit: Floats = (raw / norms[:, None]).astype(np.float32)
    return unit


def check_embeddings(**sides: npt.NDArray[Any]) -> None:
    """Each side (N, D), one D, finite, no zero row; anything else is UsageError naming the side."""
    dims: dict[str, int] = {}
    for side, rows in sides.items():
        if rows.ndim != 2:
            raise UsageError(f"{side} embeddings must be (N, D), got shape {rows.shape}")
        unit_rows(rows, f"{side} embeddings")
        dims[side] = rows.shape[1]
    if len(set(dims.values())) > 1:
        raise UsageError(f"embeddings differ in dimension: {dims}")


def cosine_rows(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Floats:
    """Cosine of corresponding rows, higher is closer: (N, D), (N, D) -> (N,), each in [-1, 1]."""
    check_embeddings(a=a, b=b)
    if len(a) != len(b):
        raise UsageError(f"rows do not correspond: {len(a)} against {len(b)}")
    cosines: Floats = np.einsum("nd,nd->n", unit_rows(a, "a"), unit_rows(b, "b")).clip(-1, 1)
    return cosines
