"""The release that devices run now, opened for comparison: a workspace, or a registry's channel."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compat.errors import UsageError
from compat.manifest import SUFFIX, Artifact, Model
from compat.previous_answers import PreviousRelease
from compat.verification import Subject
from edge.embedder import open_embedder
from registry.candidate import CandidateFolder
from registry.judging import subjects_of
from registry.local_release import FIRST_ROOT, LocalRelease
from registry.report_files import report_at
from registry.storage.address import open_store
from registry.workspace import Workspace


@contextmanager
def open_previous(address: str, family: str) -> Iterator[PreviousRelease]:
    """What ``address`` holds; verified copies of a registry's files live as long as the context.

    Args:
        address: a workspace where a family was verified, or a registry (folder or bucket).
        family: whose channel is read in a registry.

    Raises:
        UsageError: neither is there. Remedy: the message's.
        OfflineError, UntrustedError: see `registry.local_release.LocalRelease`.
    """
    workspace = Workspace(Path(address))
    if workspace.report_json.is_file():
        yield _of_workspace(workspace)
        return
    store = open_store(address)
    if store.stat(FIRST_ROOT) is None:
        raise UsageError(
            f"{address} is neither a workspace that was verified nor a registry: name the runs/... "
            "of the previous release, or the registry that it was published to"
        )
    with tempfile.TemporaryDirectory() as scratch:
        yield _of_release(LocalRelease(store, family, Path(scratch)))


def _of_workspace(workspace: Workspace) -> PreviousRelease:
    report = report_at(workspace.report_json)
    names = dict.fromkeys(
        [each.member for each in report.artifacts] + [each.member for each in report.unmeasured]
    )
    folders = [CandidateFolder(workspace.artifacts / name) for name in (report.cloud.name, *names)]
    cloud, *members = (each for folder in folders for each in subjects_of(folder, report.space))
    return PreviousRelease(report.space, cloud, tuple(members))


def _of_release(release: LocalRelease) -> PreviousRelease:
    manifest = release.manifest
    cloud, *members = (
        _subject(release, model, artifact)
        for model in (manifest.cloud, *manifest.members)
        for artifact in model.artifacts
    )
    return PreviousRelease(manifest.space, cloud, tuple(members))


def _subject(release: LocalRelease, model: Model, artifact: Artifact) -> Subject:
    space = release.manifest.space
    file = release.fetch(artifact).rename(
        release.scratch / f"{artifact.digest}.{SUFFIX[artifact.runtime]}"
    )
    return Subject(
        name=model.name,
        macs=model.macs,
        params=model.params,
        runtime=artifact.runtime,
        precision=artifact.precision,
        digest=artifact.digest,
        size_bytes=artifact.size_bytes,
        embedder=open_embedder(file, artifact.runtime, model.preprocess, space.dim),
    )
