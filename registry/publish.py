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
    Channel,
    Member,
    Model,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.matrix import matrix_target
from compat.report import ArtifactEvidence, Report
from compat.space import EmbeddingSpace
from edge.device import STABLE
from registry.matrix import stored_matrix, with_release
from registry.repository import Repository
from registry.running_costs import with_costs


@dataclass(frozen=True)
class Candidate:
    """A release that nobody has signed yet."""

    version: str
    space: EmbeddingSpace
    report: bytes
    cloud: Model  # the gallery model, with the artifact that the report measured
    members: tuple[Member, ...]  # with all exported artifacts, admitted or not
    blobs: Mapping[str, bytes]  # digest -> bytes of every artifact and golden set


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


def check_follows(stable: ReleaseManifest, manifest: ReleaseManifest) -> None:
    """Return when ``manifest`` may take the place of ``stable``.

    Raises:
        RefusedError: its version does not say what it is. Remedy: choose the version that does.
    """
    old, new = _numbers(stable.version), _numbers(manifest.version)
    if new <= old:
        raise RefusedError(
            f"version {manifest.version} is not above {stable.version}, which is published: "
            "choose a higher one"
        )
    if stable.space != manifest.space and new[0] == old[0]:
        raise RefusedError(
            f"version {manifest.version} changes the embedding space from {stable.space.id} to "
            f"{manifest.space.id}, galleries must be refreshed: that is a major version"
        )


def publish(repository: Repository, candidate: Candidate) -> ReleaseManifest:
    """Sign ``candidate`` as a release and point the channel `STABLE` to it, in one commit.

    Safe to repeat: publishing the same bytes again changes nothing, also after a crash. What the
    channel follows and the commit are one step: a release that came in between is never undone.

    Raises:
        RefusedError: see `assemble` and `check_follows`; or the version is published with other
            bytes. Remedy: choose a new version.
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
    if published == manifest.to_bytes():
        return manifest
    if published is not None:
        raise RefusedError(f"{name} is published with other bytes: choose a new version")
    if stable := _stable(repository, family):
        check_follows(stable, manifest)
    pointer = Channel(family=family, channel=STABLE, version=manifest.version)
    report = Report.from_bytes(candidate.report)
    matrix = with_release(stored_matrix(repository, family), manifest, report)
    repository.sign_targets(
        family,
        {blob_target(family, digest): blob for digest, blob in blobs.items()}
        | {name: manifest.to_bytes()},
        moving={
            channel_target(family, STABLE): pointer.to_bytes(),
            matrix_target(family): matrix.to_bytes(),
        },
        expected=version,
    )
    return manifest


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


def _stable(repository: Repository, family: str) -> ReleaseManifest | None:
    name = channel_target(family, STABLE)
    pointer = repository.read(family, name, max_bytes=MAX_MANIFEST_BYTES)
    if pointer is None:
        return None
    target = manifest_target(family, Channel.from_bytes(pointer).version)
    manifest = repository.read(family, target, max_bytes=MAX_MANIFEST_BYTES)
    return ReleaseManifest.from_bytes(manifest) if manifest else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
