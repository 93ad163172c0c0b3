"""The gallery model as members see it: images in, frozen embeddings out, a head where it has one.

It may have been trained here, be an ONNX file from elsewhere, or be a table of what it said;
nothing that a member learns asks which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import pyarrow
import pyarrow.parquet
from rich.progress import track
from torch import Tensor, nn

from compat.dataset import LabelledImage
from compat.embedding import unit_rows
from compat.errors import ConfigError, DataError
from compat.files import read_bounded
from compat.preprocess import Floats, Preprocess
from compat.terminal import STDERR
from server_models.embed import embed_all
from server_models.export import export_onnx_fp32
from server_models.pixels import decode_all

CHUNK = 1024  # images
MAX_GALLERY_BYTES = 2**33  # of a model or a table
ONNX_BATCH = 16
EXPORTED_FROM = 512  # images; fewer are embedded before an export is done
NAMED_AT_MOST = 5


class GalleryModel(Protocol):
    """Frozen; the same image always lands in the same place."""

    @property
    def head(self) -> Tensor | None:
        """(C, D) the classifier that it was trained with, over the training classes in order."""
        ...

    def embed(self, images: Sequence[LabelledImage], *, title: str) -> Floats:
        """N images -> (N, D) float32, rows of L2 norm 1."""
        ...


class _Graph:
    """An ONNX graph in ONNX Runtime, which embeds several times faster than torch does here."""

    def __init__(self, blob: bytes, what: str = "the network") -> None:
        """Raises ConfigError when the bytes do not load, or hold more than one way in and out."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal: errors are raised, not also printed
        try:
            self._session = onnxruntime.InferenceSession(
                blob, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ConfigError(f"{what} is no ONNX file that loads: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [each.type for each in (*inputs, *outputs)] != ["tensor(float)"] * 2:
            raise ConfigError(f"{what} must have one float32 input and one float32 output")
        self.takes, self.gives = list(inputs[0].shape[1:]), list(outputs[0].shape[1:])
        self._name = inputs[0].name

    def embed(self, tensors: Floats, title: str) -> Floats:
        """(N, S, S, 3) float32 normalised -> (N, D) float32, rows of L2 norm 1."""
        turn = (0, 3, 1, 2) if self.takes[0] == 3 else (0, 1, 2, 3)
        found = []
        starts = range(0, len(tensors), ONNX_BATCH)
        for start in track(starts, title, transient=True, console=STDERR):
            batch = np.ascontiguousarray(tensors[start : start + ONNX_BATCH].transpose(turn))
            found.append(self._session.run(None, {self._name: batch})[0])
        return unit_rows(np.concatenate(found), title)


@dataclass(frozen=True)
class TrainedGallery:
    """A network of this project."""

    net: nn.Module
    head: Tensor | None
    preprocess: Preprocess

    def embed(self, images: Sequence[LabelledImage], *, title: str) -> Floats:
        """See `GalleryModel`. Raises DataError for an image that cannot be used."""

        if len(images) < EXPORTED_FROM:
            pixels = decode_all(images, self.preprocess, title=f"decode: {title}").pixels
            return embed_all(self.net, self.preprocess, pixels, title=title)
        return _in_chunks(images, self.preprocess, self._graph, title)

    @cached_property
    def _graph(self) -> "_Graph":
        return _Graph(export_onnx_fp32(self.net, self.preprocess.size_px))


@dataclass(frozen=True)
class OnnxGallery:
    """A file: one input (N, S, S, 3) or (N, 3, S, S) float32, one output (N, D) float32."""

    path: Path
    preprocess: Preprocess
    dim: int

    @property
    def head(self) -> None:
        return None

    @cached_property
    def _graph(self) -> "_Graph":
        graph = _Graph(read_bounded(self.path, MAX_GALLERY_BYTES), str(self.path))
        side = self.preprocess.size_px
        if graph.takes not in ([side, side, 3], [3, side, side]) or graph.gives != [self.dim]:
            raise ConfigError(
                f"{self.path} takes {graph.takes} and gives {graph.gives}: the family needs one "
                f"float32 input (N, {side}, {side}, 3) or (N, 3, {side}, {side}) and one output "
                f"(N, {self.dim}); set dim and cloud.preprocess.size_px to what the file has, or "
                "export it anew"
            )
        return graph

    def embed(self, images: Sequence[LabelledImage], *, title: str) -> Floats:
        """See `GalleryModel`. Raises ConfigError for another graph."""
        return _in_chunks(images, self.preprocess, self._graph, title)


@dataclass(frozen=True)
class TableGallery:
    """A Parquet table: columns ``path``, as the data set names its images, and ``vector``."""

    path: Path
    dim: int

    @property
    def head(self) -> None:
        return None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._table["path"].to_pylist())}

    @cached_property
    def _vectors(self) -> Floats:
        flat = np.asarray(self._table["vector"].combine_chunks().flatten(), dtype=np.float32)
        if flat.size != self._table.num_rows * self.dim:
            raise ConfigError(
                f"{self.path}: {flat.size} numbers in {self._table.num_rows} vectors are not "
                f"{self.dim} each: set dim to what the table has"
            )
        return unit_rows(flat.reshape(-1, self.dim), str(self.path))

    @cached_property
    def _table(self) -> pyarrow.Table:
        try:
            source = pyarrow.BufferReader(read_bounded(self.path, MAX_GALLERY_BYTES))
            return pyarrow.parquet.read_table(source, columns=["path", "vector"])
        except (pyarrow.ArrowException, OSError) as error:
            raise ConfigError(
                f"{self.path} is no Parquet table with the columns path and vector: {error}"
            ) from error

    def embed(self, images: Sequence[LabelledImage], *, title: str) -> Floats:
        """See `GalleryModel`. Raises DataError for an image that has no row."""
        del title
        if missing := [image.name for image in images if image.name not in self._rows]:
            raise DataError(
                f"{self.path} has no vector for {len(missing)} of {len(images)} images "
                f"({', '.join(missing[:NAMED_AT_MOST])}): add their rows, or leave the images out"
            )
        return self._vectors[[self._rows[image.name] for image in images]]


def _in_chunks(
    images: Sequence[LabelledImage],
    preprocess: Preprocess,
    graph: _Graph,
    title: str,
) -> Floats:
    """Decode and embed some images at a time, so that a large set fits into memory."""
    rows = []
    for start in range(0, len(images), CHUNK):
        shown = f"{title} {start} of {len(images)}" if len(images) > CHUNK else title
        decoded = decode_all(images[start : start + CHUNK], preprocess, title=f"decode: {shown}")
        rows.append(graph.embed(preprocess.normalised(decoded.pixels), shown))
    return np.concatenate(rows)
