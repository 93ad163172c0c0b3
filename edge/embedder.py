"""The embedder that ships: a runtime with its preprocessing recipe.

The same class embeds on a device, builds the gallery and is measured by verification, so what is
proven is what runs. Graphs give raw embeddings; unit rows are made here, after every runtime and
precision (docs/adr/0005).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compat import manifest
from compat.embedding import unit_rows
from compat.errors import UntrustedError, UsageError
from compat.files import read_bounded
from compat.preprocess import Floats, Preprocess
from edge.runtimes import Runtime, open_runtime

MAX_ARTIFACT_BYTES = 2**31  # protobuf and flatbuffers end here too
_BATCH = 32  # images decoded at once


def open_embedder(
    path: Path,
    runtime: manifest.Runtime,
    preprocess: Preprocess,
    dim: int,
    *,
    threads: int = 1,
) -> "RuntimeEmbedder":
    """Load an artifact and check it against what its manifest says of it.

    Args:
        path: the exported file. Its bytes are loaded as they are: the caller has compared their
            digest with the manifest's.
        runtime: what runs it.
        preprocess: the recipe that it was trained with.
        dim: of the space.
        threads: within one operator.

    Raises:
        UntrustedError: the graph takes another size or gives another dimension. Keep what runs.
        CorruptError: the bytes do not load. Fetch them again.
        MissingExtraError: the runtime is not installed.
        UsageError: there is no such file.
    """
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    loaded = open_runtime(read_bounded(path, MAX_ARTIFACT_BYTES), runtime, threads=threads)
    if loaded.size_px != preprocess.size_px:
        raise UntrustedError(
            f"{path} takes images of {loaded.size_px} px, its manifest says {preprocess.size_px}"
        )
    if loaded.dim != dim:
        raise UntrustedError(f"{path} gives {loaded.dim} dimensions, its manifest says {dim}")
    return RuntimeEmbedder(loaded, preprocess)


class RuntimeEmbedder:
    """A `compat.embedding.Embedder`; may be shared between threads."""

    def __init__(self, runtime: Runtime, preprocess: Preprocess) -> None:
        self._runtime = runtime
        self._preprocess = preprocess

    @property
    def preprocess(self) -> Preprocess:
        return self._preprocess

    @property
    def dim(self) -> int:
        return self._runtime.dim

    @property
    def runtime_version(self) -> str:
        """Version of the package that runs the artifact."""
        return self._runtime.version

    @property
    def provider(self) -> str:
        """The execution provider or delegate that computes here."""
        return self._runtime.provider

    def embed(self, tensors: Floats) -> Floats:
        """(N, S, S, 3) float32 normalised -> (N, D) float32, rows of L2 norm 1.

        Raises:
            UsageError: another shape or dtype, a value that is not finite, or an image to which
                the model gives no direction.
            UntrustedError: the graph does not give the shape that it declares.
        """
        size_px = self._preprocess.size_px
        if tensors.ndim != 4 or tensors.shape[1:] != (size_px, size_px, 3):
            raise UsageError(
                f"images must be (N, {size_px}, {size_px}, 3), got {tensors.shape}: run them "
                "through the recipe first"
            )
        if tensors.dtype != np.float32:
            raise UsageError(f"images must be float32, got {tensors.dtype}: normalise them first")
        if not np.isfinite(tensors).all():
            raise UsageError("images hold NaN or infinity")
        if not len(tensors):
            return np.empty((0, self.dim), dtype=np.float32)
        raw = self._runtime.run(np.ascontiguousarray(tensors))  # (N, D)
        if raw.shape != (len(tensors), self.dim):
            raise UntrustedError(
                f"the artifact declares {self.dim} dimensions and gave {raw.shape} for "
                f"{len(tensors)} images"
            )
        return unit_rows(raw, "embeddings")

    def embed_images(self, blobs: Sequence[bytes]) -> Floats:
        """N encoded images -> (N, D) float32, rows of L2 norm 1.

        Raises:
            ImageError: one cannot be used; the message names it by its place, from 0.
        """
        rows = np.empty((len(blobs), self.dim), dtype=np.float32)  # (N, D)
        for start in range(0, len(blobs), _BATCH):
            part = range(start, min(start + _BATCH, len(blobs)))
            tensors = [self._preprocess.tensor(blobs[i], f"image {i}") for i in part]
            rows[part.start : part.stop] = self.embed(np.stack(tensors))
        return rows
