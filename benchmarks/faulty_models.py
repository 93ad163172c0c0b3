"""Faults planted into an edge model for real: its files edited, exported wrongly, or fed wrongly.

Each function makes a `Subject` that verification measures like any other; its reference is what its
own trained weights give, as an export would write it.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnxruntime.quantization import quantize_static
from PIL import Image

from compat.dataset import Dataset, LabelledImage
from compat.embedding import Embedder, embed_pixels, unit_rows
from compat.errors import DataError
from compat.files import digest_of
from compat.hypotheses import hypotheses
from compat.images import read_image
from compat.manifest import Model, Precision, Runtime
from compat.preprocess import Floats, Pixels, Preprocess
from compat.verification import Subject
from edge.embedder import RuntimeEmbedder
from edge.runtimes import open_runtime
from edge.runtimes.port import Runtime as LoadedRuntime
from registry.candidate import CandidateFolder
from server_models.export import export_onnx_int8, export_tflite_int8

CALIBRATION_IMAGES = 256
CONE = 14.0  # length of what collapses the cone, in embeddings: cosines of 1 - 1 / 14^2
LastLayer = Callable[[Floats, Floats], tuple[Floats, Floats]]  # weight (D, C), bias (D,) -> both


@dataclass(frozen=True)
class Base:
    """The healthy member that faults are planted into."""

    folder: CandidateFolder
    dataset: Dataset

    @cached_property
    def model(self) -> Model:
        return self.folder.read()

    @cached_property
    def reference(self) -> Floats:
        """(Q, D) by the trained weights."""
        reference = self.folder.reference()
        if reference is None:
            raise DataError(f"{self.folder.path} holds no reference: export the member again")
        return reference

    @cached_property
    def queries(self) -> tuple[LabelledImage, ...]:
        return self.dataset.of("test", "query")

    def blob(self, label: str) -> bytes:
        [artifact] = [each for each in self.model.artifacts if each.label == label]
        return self.folder.blob(artifact)

    def pixels(self, recipe: Preprocess) -> Pixels:
        """(Q, S, S, 3) of the queries."""
        return np.stack([recipe.pixels(read_image(each.path), each.name) for each in self.queries])

    @cached_property
    def calibration(self) -> Floats:
        """(N, S, S, 3) of training images, drawn as an export draws them."""
        images, recipe = self.dataset.of("train"), self.model.preprocess
        rows = np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES]
        return np.stack([recipe.tensor(read_image(images[row].path)) for row in rows])

    def subject(
        self,
        name: str,
        embedder: Embedder,
        *,
        runtime: Runtime = "onnxruntime",
        precision: Precision = "fp32",
        reference: Floats | None = None,
    ) -> Subject:
        return Subject(
            name=name,
            macs=self.model.macs,
            params=self.model.params,
            runtime=runtime,
            precision=precision,
            digest=digest_of(name.encode()),
            size_bytes=len(self.blob(f"{runtime}/{precision}")),
            embedder=embedder,
            reference=self.reference if reference is None else reference,
        )

    def open(
        self, blob: bytes, runtime: Runtime = "onnxruntime", recipe: Preprocess | None = None
    ) -> RuntimeEmbedder:
        return RuntimeEmbedder(open_runtime(blob, runtime), recipe or self.model.preprocess)

    def embed(self, embedder: Embedder) -> Floats:
        """(Q, D) of the queries."""
        return np.concatenate(list(embed_pixels(embedder, self.pixels(embedder.preprocess))))


def healthy(base: Base) -> Iterator[Subject]:
    """Every artifact of the member as it is."""
    for artifact in base.model.artifacts:
        embedder = base.open(base.folder.blob(artifact), artifact.runtime)
        name = f"healthy-{artifact.runtime}-{artifact.precision}"
        yield base.subject(name, embedder, runtime=artifact.runtime, precision=artifact.precision)


def fed_wrongly(base: Base, name: str, recipe: Preprocess) -> Subject:
    """The fp32 file behind a recipe that it was not trained with."""
    return base.subject(name, base.open(base.blob("onnxruntime/fp32"), recipe=recipe))


class SwappedChannels(Preprocess):
    """The recipe, blue first."""

    def fitted(self, image: Image.Image) -> Pixels:
        return np.ascontiguousarray(super().fitted(image)[..., ::-1])


class NoAntialias(Preprocess):
    """The recipe, but the resize samples at pixel centres, bilinear, whatever the scale."""

    def fitted(self, image: Image.Image) -> Pixels:
        recipe = Preprocess(**self.model_dump())
        alternatives = {each.name: each.pixels for each in hypotheses(recipe)}
        sampled = alternatives["resized with bilinear without antialias"]
        assert sampled is not None
        whole = io.BytesIO()
        image.save(whole, "PNG")
        return sampled(whole.getvalue(), recipe).astype(np.uint8)


def noise_calibrated(base: Base) -> Subject:
    """int8 ranges of normal noise instead of images."""
    shape = base.calibration.shape
    noise = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    blob = export_tflite_int8(base.blob("litert/fp32"), noise)
    embedder = base.open(blob, "litert")
    return base.subject("noise-calibrated", embedder, runtime="litert", precision="int8")


def moving_average_int8(base: Base) -> bytes:
    """int8 with ranges that are a moving average over images: ONNX Runtime's own option."""

    def averaging(*files: Any, **options: Any) -> None:
        quantize_static(*files, **options, extra_options={"CalibMovingAverage": True})

    with patch("server_models.export.onnx.quantize_static", averaging):
        return export_onnx_int8(base.blob("onnxruntime/fp32"), base.calibration)


def edited(blob: bytes, change: LastLayer) -> bytes:
    """The ONNX file with the weight and bias of its last layer changed."""
    proto = onnx.load_model_from_string(blob)
    tensors = {each.name: each for each in proto.graph.initializer}
    last = proto.graph.node[-1]
    if last.op_type != "Gemm":
        raise DataError(f"the last node is {last.op_type}, not Gemm: no layer to plant a fault in")
    places = [tensors[name] for name in last.input[1:3]]
    changed = change(*(onnx.numpy_helper.to_array(place) for place in places))
    for place, values in zip(places, changed, strict=True):
        place.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), place.name))
    found: bytes = proto.SerializeToString()
    return found


def broken_output(base: Base, name: str, factor: float) -> Subject:
    """The fp32 file whose last layer is multiplied away: 0 gives zeros, NaN gives NaN."""
    blob = edited(base.blob("onnxruntime/fp32"), lambda w, b: (w * factor, b * factor))
    return base.subject(name, base.open(blob))


def cone_collapsed(base: Base) -> Subject:
    """A model whose embeddings crowd round one direction, then quantised with real images."""
    fp32 = base.blob("onnxruntime/fp32")
    raw = open_runtime(fp32, "onnxruntime").run(base.calibration[:64])  # (64, D)
    middle = unit_rows(raw, "raw").mean(axis=0)
    offset = CONE * np.linalg.norm(raw, axis=1).mean() * middle / np.linalg.norm(middle)
    trained = edited(fp32, lambda w, b: (w, b + offset))
    embedder = base.open(export_onnx_int8(trained, base.calibration))
    return base.subject(
        "cone-collapsed", embedder, precision="int8", reference=base.embed(base.open(trained))
    )


def other_generation(base: Base) -> Subject:
    """The same network in a space of its own: all distances kept, every direction another."""
    dim = len(base.reference[0])
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(dim, dim)))
    blob = edited(base.blob("onnxruntime/fp32"), lambda w, b: (turn @ w, turn @ b))
    embedder = base.open(blob)
    return base.subject("other-generation", embedder, reference=base.embed(embedder))


@dataclass(frozen=True)
class RawOutput:
    """An app that takes the graph's numbers as they come: no unit rows."""

    runtime: LoadedRuntime
    preprocess: Preprocess

    @property
    def dim(self) -> int:
        return self.runtime.dim

    def embed(self, tensors: Floats) -> Floats:
        return self.runtime.run(tensors)


def unnormalised(base: Base) -> Subject:
    """int8 embeddings as the graph gives them."""
    raw = RawOutput(open_runtime(base.blob("litert/int8"), "litert"), base.model.preprocess)
    return base.subject("unnormalised-int8", raw, runtime="litert", precision="int8")


@dataclass(frozen=True)
class Forgetful:
    """Better on average, blind to one class: image and mirror image averaged, some seen as grey."""

    whole: RuntimeEmbedder
    lost: frozenset[str]  # digests of the tensors that it does not see

    @property
    def preprocess(self) -> Preprocess:
        return self.whole.preprocess

    @property
    def dim(self) -> int:
        return self.whole.dim

    def embed(self, tensors: Floats) -> Floats:
        seen = tensors.copy()
        seen[[digest_of(each.tobytes()) in self.lost for each in tensors]] = 0.0
        mirrored = np.ascontiguousarray(seen[:, :, ::-1])
        return unit_rows(self.whole.embed(seen) + self.whole.embed(mirrored), "embeddings")


def loses_one_class(base: Base, column: str, value: str) -> Subject:
    """A member that finds more than the healthy one, except where ``column`` is ``value``."""
    recipe = base.model.preprocess
    lost = frozenset(
        digest_of(recipe.tensor(read_image(each.path)).tobytes())
        for each in base.dataset.of("test")
        if each.columns[column] == value
    )
    embedder = Forgetful(base.open(base.blob("onnxruntime/fp32")), lost)
    return base.subject("loses-one-class", embedder, reference=base.embed(embedder))
