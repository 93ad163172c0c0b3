"""Verify a candidate by the embedders that ship, and turn it into a release that can be signed.

Needs no torch: what the training framework computed lies in the candidate's folder.
"""

import platform

import numpy as np
from rich.progress import Progress

from compat.dataset import Dataset, LabelledImage
from compat.embedding import Embedder
from compat.evidence import EvidenceSet, LabelledImages
from compat.files import digest_of, read_bounded
from compat.flip_strips import draw_strips
from compat.golden import GoldenSet
from compat.images import read_image
from compat.manifest import Artifact, Blob, Member, Model
from compat.policy import Policy
from compat.previous_answers import PreviousRelease
from compat.report import MAX_REPORT_BYTES, ArtifactTiming, ProbeTiming, Report, Timing
from compat.space import EmbeddingSpace
from compat.terminal import STDERR
from compat.upgrade_report import MAX_UPGRADE_BYTES
from compat.verification import Subject, verify
from edge.embedder import open_embedder
from edge.footprint import measure
from edge.probes import PROBES
from registry.candidate import CandidateFolder
from registry.publish import Candidate
from registry.report_files import write_report
from registry.workspace import Workspace

LATENCY_RUNS = 100
GOLDEN_IMAGES = 16
HELD_OUT = "test"


def judge_candidate(
    workspace: Workspace,
    dataset: Dataset,
    *,
    space: EmbeddingSpace,
    policy: Policy,
    cloud: str,
    members: tuple[str, ...],
    previous: PreviousRelease | None = None,
) -> Report:
    """Measure every exported artifact on the held-out split; write report.json and report.html.

    Args:
        previous: what devices run now: who gets worse by this update is measured too.

    Raises:
        UsageError: a model was not exported yet. Remedy: ``kinspace export``.
        DataError: the held-out split cannot prove anything. Remedy: the message's.
    """
    evidence = held_out(dataset)
    folders = [CandidateFolder(workspace.artifacts / name) for name in (cloud, *members)]
    subjects = [each for folder in folders for each in subjects_of(folder, space)]
    with Progress(transient=True, console=STDERR) as bar:
        timing = _timing(bar, folders, space)
        shown = bar.add_task("verify")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        labels = [each.label for each in subjects[1:]]
        report = verify(
            evidence,
            subjects[0],
            members=subjects[1:],
            space=space,
            policy=policy,
            timing=timing,
            previous=previous.answers(evidence, labels, progress) if previous else None,
            progress=progress,
        )
    write_report(workspace, report, draw_strips(report, evidence))
    return report


def read_report(workspace: Workspace) -> Report:
    """Raises UsageError when nothing was verified yet."""
    return Report.from_bytes(read_bounded(workspace.report_json, MAX_REPORT_BYTES))


def candidate_of(
    workspace: Workspace,
    dataset: Dataset,
    *,
    version: str,
    space: EmbeddingSpace,
    cloud: str,
    members: tuple[str, ...],
) -> Candidate:
    """Bind report, models and fresh golden sets into what `registry.publish.publish` signs."""
    cloud_folder = CandidateFolder(workspace.artifacts / cloud)
    blobs: dict[str, bytes] = {}
    described = []
    for name in members:
        folder = CandidateFolder(workspace.artifacts / name)
        model = folder.read()
        golden = _golden(folder, model, dataset, space).to_bytes()
        blob = Blob(digest=digest_of(golden), size_bytes=len(golden))
        blobs[blob.digest] = golden
        blobs |= {each.digest: folder.blob(each) for each in model.artifacts}
        described.append(Member.model_validate({**dict(model), "golden": blob}))
    cloud_model = cloud_folder.read()
    blobs |= {each.digest: cloud_folder.blob(each) for each in cloud_model.artifacts}
    return Candidate(
        version=version,
        space=space,
        report=read_bounded(workspace.report_json, MAX_REPORT_BYTES),
        cloud=cloud_model,
        members=tuple(described),
        blobs=blobs,
        upgrade=_upgrade(workspace),
    )


def _upgrade(workspace: Workspace) -> bytes | None:
    path = workspace.upgrade / "matrix.json"
    return read_bounded(path, MAX_UPGRADE_BYTES) if path.exists() else None


def embedder_of(
    folder: CandidateFolder, model: Model, artifact: Artifact, space: EmbeddingSpace
) -> Embedder:
    """The embedder that ships, on a candidate's file."""
    return open_embedder(folder.file(artifact), artifact.runtime, model.preprocess, space.dim)


def subjects_of(folder: CandidateFolder, space: EmbeddingSpace) -> list[Subject]:
    """Each artifact of a model with its embedder."""
    model = folder.read()
    return [
        Subject(
            name=model.name,
            macs=model.macs,
            params=model.params,
            runtime=artifact.runtime,
            precision=artifact.precision,
            digest=artifact.digest,
            size_bytes=artifact.size_bytes,
            embedder=embedder_of(folder, model, artifact, space),
            reference=folder.reference(),
        )
        for artifact in model.artifacts
    ]


def _timing(bar: Progress, folders: list[CandidateFolder], space: EmbeddingSpace) -> Timing:
    """Latency and memory of each artifact, each in a process of its own."""
    pairs = [(f, model, a) for f in folders for model in (f.read(),) for a in model.artifacts]
    costs = []
    shown = bar.add_task("measure", total=len(pairs))
    for folder, model, artifact in pairs:
        bar.update(shown, description=f"time {model.name} {artifact.label}")
        cost = measure(
            folder.file(artifact), artifact.runtime, model.preprocess, space.dim, LATENCY_RUNS
        )
        costs.append(
            ArtifactTiming(
                digest=artifact.digest,
                latency_ms_p50=cost.latency_ms_p50,
                latency_ms_p95=cost.latency_ms_p95,
                resident_bytes=cost.resident_bytes,
            )
        )
        bar.advance(shown)
    return Timing(
        machine=f"{platform.machine()} {platform.system()}",
        artifacts=tuple(costs),
        probes=_probe_timing(bar),
    )


def _probe_timing(bar: Progress) -> tuple[ProbeTiming, ...]:
    """What a device's own probe times are compared with; see `edge.probes`."""
    shown = bar.add_task("time the probes", total=len(PROBES))
    timed = []
    for probe in PROBES:
        found = probe.measured()
        timed.append(
            ProbeTiming(
                digest=found.probe,
                runtime=found.runtime,
                precision=found.precision,
                latency_ms_p50=found.latency_ms_p50,
            )
        )
        bar.advance(shown)
    return tuple(timed)


def held_out(dataset: Dataset) -> EvidenceSet:
    """What a family is judged on.

    Raises:
        DataError: it cannot prove anything, or an image cannot be read. Remedy: the message's.
    """
    return EvidenceSet(
        queries=labelled(dataset.of(HELD_OUT, "query")),
        gallery=labelled(dataset.of(HELD_OUT, "gallery")),
        dataset_digest=dataset.digest,
        split=HELD_OUT,
    )


def labelled(images: tuple[LabelledImage, ...]) -> LabelledImages:
    return LabelledImages(
        names=tuple(str(image.path) for image in images),
        images=tuple(read_image(image.path) for image in images),
        labels=tuple(image.label for image in images),
        columns={
            column: tuple(image.columns.get(column, "") for image in images)
            for column in sorted({name for image in images for name in image.columns})
        },
    )


def _golden(
    folder: CandidateFolder, model: Model, dataset: Dataset, space: EmbeddingSpace
) -> GoldenSet:
    """Held-out queries spread over the split, with the tensors and embeddings they must give."""
    queries = dataset.of(HELD_OUT, "query")
    rows = np.linspace(0, len(queries) - 1, min(GOLDEN_IMAGES, len(queries))).astype(int)
    images = tuple(read_image(queries[row].path) for row in rows)
    pixels = np.stack([model.preprocess.pixels(image) for image in images])  # (K, S, S, 3)
    tensors = model.preprocess.normalised(pixels)
    return GoldenSet(
        images=images,
        pixels=pixels,
        embeddings={
            artifact.digest: embedder_of(folder, model, artifact, space).embed(tensors)
            for artifact in model.artifacts
        },
    )
