"""Small real releases for a simulated fleet: linear models in ONNX, with their golden sets."""

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from compat.embedding import unit_rows
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import (
    Artifact,
    Blob,
    Member,
    Model,
    ReleaseManifest,
    blob_target,
    manifest_target,
)
from compat.preprocess import Floats, Preprocess
from compat.space import EmbeddingSpace
from registry.repository import Repository

FAMILY = "fleet"
RECIPE = Preprocess(size_px=16)
DIM = 16


class Small(NamedTuple):
    """One release: what is signed, and what its model gives for `photo`."""

    manifest: ReleaseManifest
    blobs: dict[str, bytes]
    expected: Floats  # (1, D)


@lru_cache
def photo() -> bytes:
    rng = np.random.default_rng(7)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@lru_cache
def small_release(version: str, seed: int) -> Small:
    """Other weights for another ``seed``; the same space."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(RECIPE.size_px**2 * 3, DIM)).astype(np.float32)
    blob, report = _onnx(weights), b"a simulated release: nothing was measured"
    pixels = RECIPE.pixels(photo())[None]  # (1, S, S, 3)
    rows = unit_rows(RECIPE.normalised(pixels).reshape(1, -1) @ weights, "golden")
    golden = GoldenSet((photo(),), pixels, {digest_of(blob): rows}).to_bytes()
    artifact = Artifact(
        digest=digest_of(blob),
        size_bytes=len(blob),
        runtime="onnxruntime",
        precision="fp32",
        admission_cosine=0.999,
    )
    model = Model(
        name="linear",
        preprocess=RECIPE,
        macs=weights.size,
        params=weights.size,
        artifacts=(artifact,),
    )
    member = Member(golden=_named(golden), **dict(model))
    manifest = ReleaseManifest(
        family=FAMILY,
        version=version,
        space=EmbeddingSpace(family=FAMILY, generation=1, dim=DIM),
        cloud=model,
        members=(member,),
        report=_named(report),
    )
    return Small(manifest, {digest_of(each): each for each in (blob, golden, report)}, rows)


def sign_small(repository: Repository, small: Small) -> None:
    """Sign it past the gate, as a publisher would whose gate had missed the fault; no channel."""
    version = small.manifest.version
    blobs = {blob_target(FAMILY, digest): blob for digest, blob in small.blobs.items()}
    name = manifest_target(FAMILY, version)
    repository.sign_targets(FAMILY, blobs | {name: small.manifest.to_bytes()}, moving={})


def _named(blob: bytes) -> Blob:
    return Blob(digest=digest_of(blob), size_bytes=len(blob))


def _onnx(weights: Floats) -> bytes:
    """(N, S, S, 3) -> flattened @ weights (S * S * 3, D)."""
    size = RECIPE.size_px
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", size, size, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    blob: bytes = model.SerializeToString()
    return blob
