"""A family of coloured tiles that needs no training: models are one matrix on the mean colour.

`tiles_in` writes a data set, `model` an ONNX file, `candidate` what a publisher would sign.
"""

from pathlib import Path

import numpy as np
import onnx
from measured import RETRIEVAL, measured
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from compat.dataset import Dataset, read_dataset
from compat.embedding import Embedder
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.images import read_image
from compat.manifest import Artifact, Blob, Member, Model
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import CloudEvidence, Evidence, Report, Timing
from compat.space import EmbeddingSpace
from edge.embedder import open_embedder
from registry.publish import Candidate

SPACE = EmbeddingSpace(family="tiles", generation=1, dim=8)
RECIPE = Preprocess(size_px=8)


def model(noise: float, dim: int = SPACE.dim) -> bytes:
    """(N, 8, 8, 3) -> mean colour through a matrix -> (N, D); ``noise`` moves the matrix."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, dim)) + noise * rng.normal(size=(3, dim))
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["embedding"]),
    ]
    made = helper.make_graph(
        nodes,
        "tiles",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dim])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    opset = [helper.make_opsetid("", 13)]
    blob: bytes = onnx.helper.make_model(
        made, opset_imports=opset, ir_version=9
    ).SerializeToString()
    return blob


def embedder_of(blob: bytes, folder: Path) -> Embedder:
    path = folder / f"{digest_of(blob)}.onnx"
    path.write_bytes(blob)
    return open_embedder(path, "onnxruntime", RECIPE, SPACE.dim)


def tiles_in(folder: Path, n: int = 40, *, n_train: int = 0) -> Dataset:
    """``n`` test colours after ``n_train`` others, one query, one gallery image each."""
    rows, rng = ["path,label,split,role"], np.random.default_rng(1)
    folder.mkdir(parents=True)
    for label in range(n_train + n):
        split = "train" if label < n_train else "test"
        colour = rng.integers(20, 230, 3)
        for role in ("query", "gallery"):
            shade = colour + rng.integers(-6, 6, 3)
            name = f"{label}-{role}.png"
            Image.new("RGB", (9, 9), tuple(int(c) for c in shade)).save(folder / name)
            rows.append(f"{name},c{label},{split},{role}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return read_dataset(folder)


def artifact_of(blob: bytes) -> Artifact:
    return Artifact(
        digest=digest_of(blob),
        size_bytes=len(blob),
        runtime="onnxruntime",
        precision="fp32",
        admission_cosine=0.99,
    )


def candidate(
    data: Path,
    *,
    version: str,
    cloud: bytes,
    members: dict[str, bytes],
    space: EmbeddingSpace = SPACE,
) -> Candidate:
    """A release of a cloud model and members, in a report that finds the members good."""
    dataset = read_dataset(data)
    photo = read_image(dataset.of("test", "query")[0].path)
    golden = GoldenSet(
        images=(photo,),
        pixels=RECIPE.pixels(photo)[None],
        embeddings={
            digest_of(each): embedder_of(each, data.parent).embed_images([photo])
            for each in members.values()
        },
    ).to_bytes()
    shared = {"preprocess": RECIPE, "macs": 9, "params": 9}
    blob = Blob(digest=digest_of(golden), size_bytes=len(golden))
    sizes = {"size_bytes": len(cloud), "macs": 9, "params": 9}
    report = Report(
        family=space.family,
        space=space,
        evidence=Evidence(
            dataset_digest=dataset.digest, split="test", queries=9, gallery=9, classes=9
        ),
        cloud=CloudEvidence(name="large", digest=digest_of(cloud), paragon=RETRIEVAL, **sizes),
        artifacts=tuple(measured(artifact_of(each), name) for name, each in members.items()),
        policy=Policy(),
        timing=Timing(machine="m", artifacts=()),
    )
    return Candidate(
        version=version,
        space=space,
        report=report.to_bytes(),
        cloud=Model(name="large", artifacts=(artifact_of(cloud),), **shared),
        members=tuple(
            Member(name=name, artifacts=(artifact_of(each),), golden=blob, **shared)
            for name, each in members.items()
        ),
        blobs={digest_of(each): each for each in (cloud, golden, *members.values())},
    )
