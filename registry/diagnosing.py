"""Run the chain of a family's artifacts on held-out images, and hand it to `compat.diagnosis`."""

import io
from pathlib import Path

import numpy as np

from compat.arrays import MAX_ARRAY_BYTES
from compat.dataset import Dataset, LabelledImage
from compat.diagnosis import (
    LEVELS_TOLERANCE,
    Link,
    Suspect,
    compare_links,
    conclude,
    diagnose_suspect,
)
from compat.diagnosis_section import DiagnosisSection, QuantisedLayers
from compat.embedding import unit_rows
from compat.errors import UsageError
from compat.files import read_bounded
from compat.images import read_image
from compat.manifest import Artifact, Model
from compat.preprocess import Floats
from compat.space import EmbeddingSpace
from registry.candidate import CandidateFolder
from registry.judging import HELD_OUT, embedder_of
from registry.workspace import Workspace

IMAGES = 64  # of the held-out queries, spread over the split
LAYER_IMAGES = 8  # every intermediate output of these is held in memory
_STEPS = {  # artifact -> what it was made from; None = the trained network
    "onnxruntime/fp32": None,
    "onnxruntime/int8": "onnxruntime/fp32",
    "litert/fp32": None,
    "litert/fp16": "litert/fp32",
    "litert/int8": "litert/fp32",
}


def diagnose_family(
    workspace: Workspace,
    dataset: Dataset,
    *,
    space: EmbeddingSpace,
    cloud: str,
    members: tuple[str, ...],
    gallery: Path | None = None,
) -> DiagnosisSection:
    """The chain torch -> each artifact of each member, then the index against re-embedding.

    Raises:
        UsageError: nothing was exported yet, or the gallery is of another data set.
    """
    queries = dataset.of(HELD_OUT, "query")
    rows = spread(len(queries), min(IMAGES, len(queries)))
    images = [queries[row] for row in rows]
    links: list[Link] = []
    layers: list[QuantisedLayers] = []
    for name in members:
        folder = CandidateFolder(workspace.artifacts / name)
        links += _member_links(folder, images, rows, len(queries), space)
        layers += _member_layers(folder, images[:LAYER_IMAGES])
    if gallery is not None:
        links += _index_links(CandidateFolder(workspace.artifacts / cloud), dataset, gallery, space)
    return conclude(len(images), compare_links(links), layers=tuple(layers))


def diagnose_file(
    workspace: Workspace,
    dataset: Dataset,
    *,
    space: EmbeddingSpace,
    member: str,
    artifact: str,
    suspect: Path,
    stage: str | None = None,
) -> DiagnosisSection:
    """What an app computed for N held-out queries against one artifact of ``member``.

    Row i is of query ``spread(queries, N)[i]``; for the N of a golden set, of its images.

    Raises:
        UsageError: the file, the stage or the artifact is not what is asked for.
    """
    raw = _read_suspect(suspect)
    kind = stage or _kind_of(raw)
    folder = CandidateFolder(workspace.artifacts / member)
    model = folder.read()
    chosen = _artifact(model, artifact)
    queries = dataset.of(HELD_OUT, "query")
    if not 1 <= len(raw) <= len(queries):
        raise UsageError(
            f"{suspect} has {len(raw)} rows, the split {len(queries)} queries: one row a query"
        )
    blobs = [read_image(queries[row].path) for row in spread(len(queries), len(raw))]
    tolerance = 1 - chosen.admission_cosine if kind == "embedding" else LEVELS_TOLERANCE
    return diagnose_suspect(
        Suspect(kind, raw.astype(np.float32), tolerance),
        blobs,
        model.preprocess,
        embedder_of(folder, model, chosen, space).embed,
    )


def spread(total: int, n: int) -> list[int]:
    """``n`` of ``total`` rows, evenly: the same rule that picks the golden images."""
    rows: list[int] = np.linspace(0, total - 1, n).astype(int).tolist()
    return rows


def _member_links(
    folder: CandidateFolder,
    images: list[LabelledImage],
    rows: list[int],
    queries: int,
    space: EmbeddingSpace,
) -> list[Link]:
    """The trained network, then its artifacts, each against what it was made from."""
    model, reference = folder.read(), folder.reference()
    root = f"{model.name} torch"
    if reference is None or len(reference) != queries:
        raise UsageError(
            f"{folder.path} holds no reference of these {queries} held-out queries: export again"
        )
    tensors = _tensors(model, images)
    links = [Link(root, None, unit_rows(reference[rows], "reference"))]
    for artifact in sorted(model.artifacts, key=lambda each: list(_STEPS).index(each.label)):
        made_from = _STEPS[artifact.label]
        embedder = embedder_of(folder, model, artifact, space)
        links.append(
            Link(
                f"{model.name} {artifact.label}",
                f"{model.name} {made_from}" if made_from else root,
                embedder.embed(tensors),
                1 - artifact.admission_cosine,
            )
        )
    return links


def _member_layers(folder: CandidateFolder, images: list[LabelledImage]) -> list[QuantisedLayers]:
    from server_models.export.layer_noise import measure_layers

    model = folder.read()
    by_label = {artifact.label: artifact for artifact in model.artifacts}
    if not {"onnxruntime/fp32", "onnxruntime/int8"} <= by_label.keys():
        return []
    return [
        measure_layers(
            folder.blob(by_label["onnxruntime/fp32"]),
            folder.blob(by_label["onnxruntime/int8"]),
            _tensors(model, images),
            f"{model.name} onnxruntime/int8",
        )
    ]


def _index_links(
    folder: CandidateFolder, dataset: Dataset, gallery: Path, space: EmbeddingSpace
) -> list[Link]:
    """Rows of the index against the cloud model run again on their images."""
    from registry.gallery import Gallery
    from registry.gallery_build import embed_images, gallery_images, item_id

    images = gallery_images(dataset)
    picked = [images[row] for row in spread(len(images), min(IMAGES, len(images)))]
    model = folder.read()
    embedder = embedder_of(folder, model, _artifact(model, "onnxruntime/fp32"), space)
    again = embed_images(embedder, [image.path for image in picked])
    stored = Gallery.open(gallery, space.id).vectors([item_id(image.name) for image in picked])
    root = f"{model.name} onnxruntime/fp32"
    return [Link(root, None, again), Link("index", root, stored, 1e-4)]


def _artifact(model: Model, label: str) -> Artifact:
    found = next((each for each in model.artifacts if each.label == label), None)
    if found is None:
        known = ", ".join(each.label for each in model.artifacts)
        raise UsageError(f"{model.name} has no artifact {label!r}: one of {known}")
    return found


def _tensors(model: Model, images: list[LabelledImage]) -> Floats:
    return np.stack([model.preprocess.tensor(read_image(each.path)) for each in images])


def _read_suspect(path: Path) -> Floats:
    """Any numeric (N, D) or (N, S, S, 3) as ``.npy``."""
    try:
        rows = np.load(io.BytesIO(read_bounded(path, MAX_ARRAY_BYTES)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is no .npy array: write it with numpy.save") from error
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu" or rows.ndim not in (2, 4):
        raise UsageError(f"{path} must hold numbers, (N, D) embeddings or (N, S, S, 3) images")
    return rows


def _kind_of(rows: Floats) -> str:
    if rows.ndim == 2:
        return "embedding"
    return "pixels" if rows.dtype == np.uint8 else "tensor"
