"""Publish a release: what the report admitted, bound by digest to what was measured, in one commit.

`assemble` decides and touches nothing; `publish` does the IO around it. One release is atomic
(docs/adr/0004): a device finds all of it under one signature or nothing of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from compat.errors import CorruptError, RefusedError, UsageError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import (
    MAX_MANIFEST_BYTES,
    Artifact,
    Blob,
    Member,
    Model,
    ReleaseManifest,
    blob_target,
    manifest_target,
)
from compat.matrix import CompatibilityMatrix, matrix_target
from compat.report import ArtifactEvidence, Report
from compat.space import EmbeddingSpace
from edge.device import STABLE
from registry.channels import offered, pointer_of
from registry.matrix import stored_matrix, with_release
from registry.repository import Repository
from registry.running_costs import with_costs
from registry.upgraded_pairs import upgraded_pairs


@dataclass(frozen=True)
class Candidate:
    """A release that nobody has signed yet."""

    version: str
    space: EmbeddingSpace
    report: bytes
    cloud: Model  # the gallery model, with the artifact that the report measured
    members: tuple[Member, ...]  # with all exported artifacts, admitted or not
    blobs: Mapping[str, bytes]  # digest -> bytes of every artifact and golden set
    upgrade: bytes | None = None  # the matrix of `kinspace upgrade`, where the release is one


def assemble(
    report: bytes,
    *,
    space: EmbeddingSpace,
    cloud: Model,
    members: Sequence[Member],
    version: str,
) -> ReleaseManifest:
    """The manifest of a release: only artifacts that the report's verdict admitted.

    A member of which nothing was admitted stays out.

    Raises:
        RefusedError: the report does not speak of exactly these models, or admits none of them.
            Remedy: verify these artifacts again, or improve them.
        UsageError: the report or the version cannot be read.
    """
    evidence = Report.from_bytes(report)
    if reasons := _mismatches(evidence, space, cloud, members):
        raise RefusedError(f"the report is not about this candidate: {'; '.join(reasons)}")
    admitted = {each.digest for each in evidence.admitted}
    chosen = []
    for member in members:
        artifacts = tuple(
            with_costs(each, evidence.timing)
            for each in member.artifacts
            if each.digest in admitted
        )
        if artifacts:
            chosen.append(member.model_copy(update={"artifacts": artifacts}))
    if not chosen:
        words = [f"{each.label}: {', '.join(each.verdict.reasons)}" for each in evidence.artifacts]
        raise RefusedError(f"the report admits no artifact of this candidate. {'; '.join(words)}")
    try:
        return ReleaseManifest(
            family=space.family,
            version=version,
            space=space,
            cloud=cloud,
            members=tuple(chosen),
            report=Blob(digest=digest_of(report), size_bytes=len(report)),
        )
    except ValidationError as error:
        raise UsageError(f"no release can be made of this candidate: {error}") from error


def publish(
    repository: Repository,
    candidate: Candidate,
    *,
    channel: str = STABLE,
    percent: float = 100,
) -> ReleaseManifest:
    """Sign ``candidate`` as a release and offer it on ``channel``, in one commit.

    Safe to repeat: publishing the same bytes again changes nothing, also after a crash; pairs that
    an upgrade measured since then are added. What the channel follows and the commit are one step:
    a release that came in between is never undone.

    Raises:
        RefusedError: see `assemble` and `offered`; or the version is published with other bytes.
            Remedy: choose a new version. Or the upgrade's matrix is of other files, see
            `registry.upgraded_pairs`.
        CorruptError: a blob is not what its digest says. Remedy: export again.
        ConflictError: another publisher was first; nothing is served of this. Remedy: repeat.
        UsageError, OfflineError, UntrustedError: see `Repository`.
    """
    manifest = assemble(
        candidate.report,
        space=candidate.space,
        cloud=candidate.cloud,
        members=candidate.members,
        version=candidate.version,
    )
    blobs = _blobs(manifest, candidate)
    family, name = manifest.family, manifest_target(manifest.family, manifest.version)
    version = repository.version
    published = repository.read(family, name, max_bytes=MAX_MANIFEST_BYTES)
    stored = stored_matrix(repository, family)
    if published == manifest.to_bytes():
        matrix = with_upgrade(stored, manifest, candidate)
        if matrix != stored:
            evidence = _evidence(family, candidate)
            moving = {matrix_target(family): matrix.to_bytes()}
            repository.sign_targets(family, evidence, moving=moving, expected=version)
        return manifest
    if published is not None:
        raise RefusedError(f"{name} is published with other bytes: choose a new version")
    report = Report.from_bytes(candidate.report)
    after = offered(repository, manifest, lambda: report, channel=channel, percent=percent)
    pointer = pointer_of(repository, after, "publish", manifest.version)
    matrix = with_upgrade(with_release(stored, manifest, report), manifest, candidate)
    repository.sign_targets(
        family,
        {blob_target(family, digest): blob for digest, blob in blobs.items()}
        | {name: manifest.to_bytes()}
        | _evidence(family, candidate)
        | pointer.entry,
        moving={**pointer.moving, matrix_target(family): matrix.to_bytes()},
        expected=version,
    )
    return manifest


def with_upgrade(
    matrix: CompatibilityMatrix, manifest: ReleaseManifest, candidate: Candidate
) -> CompatibilityMatrix:
    """``matrix``, and what `kinspace upgrade` measured between this release and older ones."""
    if candidate.upgrade is None:
        return matrix
    models = (candidate.cloud, *candidate.members)
    files = frozenset(each.digest for model in models for each in model.artifacts)
    pairs = upgraded_pairs(matrix, manifest, files=files, measured=candidate.upgrade)
    return matrix.with_entries(pairs)


def _evidence(family: str, candidate: Candidate) -> dict[str, bytes]:
    """What an upgrade's entries are the verdict of."""
    blob = candidate.upgrade
    return {} if blob is None else {blob_target(family, digest_of(blob)): blob}


def _mismatches(
    report: Report, space: EmbeddingSpace, cloud: Model, members: Sequence[Member]
) -> list[str]:
    """What the report says of other models than these, in words."""
    found = []
    if report.family != space.family or report.space != space:
        found.append(f"it is of space {report.space.id}, the candidate of {space.id}")
    digests = [each.digest for each in cloud.artifacts]
    if (report.cloud.name, [report.cloud.digest]) != (cloud.name, digests):
        found.append(f"it measured another cloud model than {cloud.name}")
    measured = {each.digest: each for each in report.artifacts}
    for member in members:
        for artifact in member.artifacts:
            label = f"{member.name} {artifact.label} ({artifact.digest[:12]})"
            evidence = measured.get(artifact.digest)
            if evidence is None:
                found.append(f"it does not speak of {label}")
            elif not _is_about(evidence, member, artifact):
                found.append(f"it calls {label} {evidence.label}, {evidence.size_bytes} bytes")
    return found


def _is_about(evidence: ArtifactEvidence, member: Member, artifact: Artifact) -> bool:
    return (evidence.member, evidence.runtime, evidence.precision, evidence.size_bytes) == (
        member.name,
        artifact.runtime,
        artifact.precision,
        artifact.size_bytes,
    )


def _blobs(manifest: ReleaseManifest, candidate: Candidate) -> dict[str, bytes]:
    """Every blob that the manifest names, by digest, proven to be it."""
    named: list[Blob] = [*manifest.cloud.artifacts]
    for member in manifest.members:
        named += [*member.artifacts, member.golden]
    blobs = {manifest.report.digest: candidate.report}
    for each in named:
        blob = candidate.blobs.get(each.digest)
        if blob is None or digest_of(blob) != each.digest or len(blob) != each.size_bytes:
            raise CorruptError(
                f"the bytes of {each.digest[:12]} are missing or damaged: export the models again"
            )
        blobs[each.digest] = blob
    for member in manifest.members:
        _check_golden(member, GoldenSet.from_bytes(blobs[member.golden.digest]), manifest.space)
    return blobs


def _check_golden(member: Member, golden: GoldenSet, space: EmbeddingSpace) -> None:
    """A release whose golden set is silent would be refused by every device: refuse it here."""
    for artifact in member.artifacts:
        rows = golden.embeddings.get(artifact.digest)
        if rows is None or not golden.images or rows.shape != (len(golden.images), space.dim):
            raise RefusedError(
                f"the golden set of {member.name} holds no embeddings of {artifact.label} in "
                f"{space.id}: make it with the artifacts that are published"
            )
