"""From a family's TOML to a signed release: what the verbs and the demo run, stage by stage."""

from pathlib import Path

from compat.errors import RefusedError
from compat.files import digest_of, read_bounded
from compat.manifest import ReleaseManifest
from compat.previous_answers import PreviousRelease
from compat.report import MAX_REPORT_BYTES, Report
from compat.report_words import refusal_in_words
from compat.terminal import STDERR
from compat.upgrade_report import UpgradeReport
from compat.wire import canonical_json
from edge.device import STABLE
from registry.candidate import CandidateFolder
from registry.deltas import publish_deltas
from registry.evidence_check import check_gallery, check_leakage
from registry.judging import candidate_of, judge_candidate, read_report
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import Repository
from registry.stages import family_of, member_inputs
from registry.storage.port import Store
from registry.workspace import Workspace
from server_models.config import FamilyConfig


def verify_family(
    config: FamilyConfig, workspace: Workspace, *, previous: PreviousRelease | None = None
) -> Report:
    """The report on the exported artifacts; measured once for equal inputs.

    With the ``previous`` release the report also says who gets worse by the update.

    Raises:
        DataError: the held-out split leaks. Nothing was measured or written.
    """
    family = family_of(config, workspace)

    def judge() -> None:
        for words in check_leakage(family.dataset):
            STDERR.print(f"warning: {words}")
        judge_candidate(
            workspace,
            family.dataset,
            space=config.space,
            policy=config.policy,
            cloud=config.cloud.name,
            members=_member_names(config),
            previous=previous,
        )

    inputs: dict[str, object] = {
        "members": [member_inputs(family, member) for member in config.members],
        "policy": config.policy.model_dump(mode="json"),
        "space": config.space.id,
        "measures": digest_of(canonical_json(Report.model_json_schema())),
    }
    if previous:
        inputs["previous"] = previous.digests
    workspace.once("verify", inputs, judge)
    return read_report(workspace)


def verify_gallery(config: FamilyConfig, workspace: Workspace, gallery: Path) -> int:
    """Whether a gallery was embedded by this family's cloud model; how many rows were compared.

    Raises:
        RefusedError: rows are by another model. Remedy: build the gallery anew.
        UsageError: it is no gallery of this family's data and space.
    """
    cloud = CandidateFolder(workspace.artifacts / config.cloud.name)
    dataset = family_of(config, workspace).dataset
    return check_gallery(gallery, dataset, cloud, config.space)


def publish_family(
    config: FamilyConfig,
    workspace: Workspace,
    *,
    registry: Store,
    keys: Path,
    channel: str = STABLE,
    percent: float = 100,
) -> ReleaseManifest:
    """Sign what the report admits, then the deltas that lead to it; safe to repeat.

    Raises:
        RefusedError: the gate admits nothing, or the version is taken. Nothing was published.
    """
    report = read_report(workspace)
    if not report.admitted:
        raise RefusedError(refusal_in_words(report))
    candidate = candidate_of(
        workspace,
        family_of(config, workspace).dataset,
        version=config.version,
        space=config.space,
        cloud=config.cloud.name,
        members=_member_names(config),
    )
    if candidate.upgrade and not UpgradeReport.from_bytes(candidate.upgrade).is_of_files:
        STDERR.print(
            "warning: the upgrade was measured before the export, so the new models are admitted "
            "to no older gallery: run kinspace upgrade again, then publish again"
        )
    repository = Repository(registry, KeyFolder(keys))
    repository.create()
    repository.add_family(config.family)
    repository.refresh()
    release = publish(repository, candidate, channel=channel, percent=percent)
    publish_deltas(repository, release)
    return release


def report_digest(workspace: Workspace) -> str:
    return digest_of(read_bounded(workspace.report_json, MAX_REPORT_BYTES))


def _member_names(config: FamilyConfig) -> tuple[str, ...]:
    return tuple(member.name for member in config.members)
