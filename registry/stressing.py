"""Put a family under stress and add what is found to its report: ``kinspace verify --stress``."""

import numpy as np
from rich.progress import Progress

from compat.dataset import Dataset
from compat.embedding import Embedder
from compat.errors import RefusedError
from compat.evidence import LabelledImages
from compat.evidence import Progress as Shown
from compat.manifest import Artifact, Model
from compat.preprocess import Floats
from compat.report import Report
from compat.space import EmbeddingSpace
from compat.stress import StressSubject, stress
from compat.terminal import STDERR
from edge.embedder import open_embedder
from registry.candidate import CandidateFolder
from registry.judging import held_out, read_report
from registry.report_files import write_report
from registry.workspace import Workspace


def stress_report(workspace: Workspace, dataset: Dataset) -> Report:
    """Stress the cloud model and one member, float and int8; write the report anew.

    The member is the cheapest admitted one, else the first that could be measured. A report that
    has the section keeps it.

    Raises:
        UsageError: nothing was verified yet. Remedy: ``kinspace verify``.
        RefusedError: no artifact could be measured; the report stays. Remedy: what it says of them.
    """
    report = read_report(workspace)
    if report.stress is not None:
        return report
    chosen = _member(report)
    evidence = held_out(dataset)
    cloud = CandidateFolder(workspace.artifacts / report.cloud.name)
    member = CandidateFolder(workspace.artifacts / chosen)
    with Progress(transient=True, console=STDERR) as bar:
        shown = bar.add_task("stress", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        subjects = [_subject(cloud, cloud.read().artifacts[0], evidence.queries, report.space)]
        subjects += [
            _subject(member, artifact, evidence.queries, report.space)
            for artifact in _float_and_int8(member.read(), report)
        ]
        gallery = _embed_gallery(subjects[0].embedder, evidence.gallery, progress)
        section = stress(subjects, gallery, evidence.relevance, evidence.queries.labels, progress)
    report = report.model_copy(update={"stress": section})
    write_report(workspace, report)
    return report


def _member(report: Report) -> str:
    measured = sorted(report.admitted, key=lambda each: each.macs) or report.artifacts
    if not measured:
        raise RefusedError("no artifact could be measured, so there is nothing to stress")
    return measured[0].member


def _float_and_int8(model: Model, report: Report) -> list[Artifact]:
    """One fp32 and one int8 artifact of the first runtime that has both, of those measured."""
    measured = {each.digest for each in report.artifacts}
    sound = [artifact for artifact in model.artifacts if artifact.digest in measured]
    for runtime in ("litert", "onnxruntime"):
        found = [
            artifact
            for precision in ("fp32", "int8")
            for artifact in sound
            if (artifact.runtime, artifact.precision) == (runtime, precision)
        ]
        if len(found) == 2:
            return found
    return sound[:2]


def _embed_gallery(embedder: Embedder, gallery: LabelledImages, progress: Shown) -> Floats:
    """(G, D) by the cloud model."""
    rows = []
    for blob, name in zip(gallery.images, gallery.names, strict=True):
        rows.append(embedder.embed(embedder.preprocess.tensor(blob, name)[None])[0])
        progress("embed the gallery", len(rows), len(gallery))
    return np.stack(rows)


def _subject(
    folder: CandidateFolder,
    artifact: Artifact,
    queries: LabelledImages,
    space: EmbeddingSpace,
) -> StressSubject:
    model, file = folder.read(), folder.file(artifact)
    one, two = (
        open_embedder(file, artifact.runtime, model.preprocess, space.dim, threads=threads)
        for threads in (1, 2)
    )
    pixels = [
        model.preprocess.pixels(blob, name)
        for blob, name in zip(queries.images, queries.names, strict=True)
    ]
    return StressSubject(f"{model.name} {artifact.label}", one, two, np.stack(pixels))
