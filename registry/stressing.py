"""Put a family under stress and add what is found to its report: ``kinspace verify --stress``."""

from collections.abc import Sequence

import numpy as np
from rich.progress import Progress

from compat.dataset import Dataset, LabelledImage
from compat.images import read_image
from compat.manifest import Artifact, Model
from compat.report import Report
from compat.scores import Relevance, relevance
from compat.space import EmbeddingSpace
from compat.stress import StressSubject, stress
from compat.terminal import STDERR
from edge.embedder import open_embedder
from registry.candidate import CandidateFolder
from registry.judging import HELD_OUT, read_report
from registry.report_files import write_report
from registry.workspace import Workspace


def stress_report(workspace: Workspace, dataset: Dataset) -> Report:
    """Stress the cloud model and one member, float and int8; write the report anew.

    The member is the cheapest admitted one, else the first. A report that has the section keeps it.

    Raises:
        UsageError: nothing was verified yet. Remedy: ``kinspace verify``.
    """
    report = read_report(workspace)
    if report.stress is not None:
        return report
    queries = dataset.of(HELD_OUT, "query")
    gallery = dataset.of(HELD_OUT, "gallery")
    cloud = CandidateFolder(workspace.artifacts / report.cloud.name)
    member = CandidateFolder(workspace.artifacts / _member(report))
    with Progress(transient=True, console=STDERR) as bar:
        shown = bar.add_task("stress", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        subjects = [_subject(cloud, cloud.read().artifacts[0], queries, report.space)]
        subjects += [
            _subject(member, artifact, queries, report.space)
            for artifact in _float_and_int8(member.read())
        ]
        progress("embed the gallery", 0, 1)
        embedder = subjects[0].embedder
        rows = [
            embedder.embed(embedder.preprocess.tensor(read_image(image.path), image.name)[None])[0]
            for image in gallery
        ]
        section = stress(
            subjects,
            np.stack(rows),
            lambda chosen: _relevance([queries[row] for row in chosen], gallery),
            [image.label for image in queries],
            progress,
        )
    report = report.model_copy(update={"stress": section})
    write_report(workspace, report)
    return report


def _member(report: Report) -> str:
    admitted = sorted(report.admitted, key=lambda each: each.macs)
    return admitted[0].member if admitted else report.artifacts[0].member


def _float_and_int8(model: Model) -> list[Artifact]:
    """One fp32 and one int8 artifact, of the runtime of the first that has both."""
    for runtime in ("litert", "onnxruntime"):
        found = [
            artifact
            for precision in ("fp32", "int8")
            for artifact in model.artifacts
            if (artifact.runtime, artifact.precision) == (runtime, precision)
        ]
        if len(found) == 2:
            return found
    return list(model.artifacts[:2])


def _subject(
    folder: CandidateFolder,
    artifact: Artifact,
    queries: Sequence[LabelledImage],
    space: EmbeddingSpace,
) -> StressSubject:
    model, file = folder.read(), folder.file(artifact)
    one, two = (
        open_embedder(file, artifact.runtime, model.preprocess, space.dim, threads=threads)
        for threads in (1, 2)
    )
    pixels = [model.preprocess.pixels(read_image(image.path), image.name) for image in queries]
    return StressSubject(f"{model.name} {artifact.label}", one, two, np.stack(pixels))


def _relevance(queries: Sequence[LabelledImage], gallery: Sequence[LabelledImage]) -> Relevance:
    return relevance([image.label for image in queries], [image.label for image in gallery])
