"""Updates of real edge models: the demo's members, moved a little, moved gently, trained anew.

Everything through the project's own training and export; each stage is done once, so a killed run
goes on from where it was.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compat.errors import UsageError
from registry.candidate import CandidateFolder
from registry.stages import export, train
from registry.workspace import Workspace
from server_models.config import FamilyConfig, MemberConfig, Schedule, UpdateConfig, read_family

DEMO_TOML = Path(__file__).resolve().parent.parent / "registry" / "demo.toml"
RELEASE = "release"
STEPS = 300
# A tenth to a fortieth of the rates that the members were trained with.
HEAD_RATE, GENTLE_RATE = 2e-4, 1e-5


@dataclass(frozen=True)
class Update:
    """One way to come from a release to the next."""

    title: str
    member: MemberConfig
    seed: int


def updates_of(released: MemberConfig, weights: Path) -> Mapping[str, Update]:
    """What a publisher may do to a released member."""

    def small(title: str, **how: object) -> Update:
        rate = how.pop("rate")
        schedule = Schedule.model_validate({**plain["schedule"], "steps": STEPS,
                                            "learning_rate": rate})  # fmt: skip
        update = UpdateConfig.model_validate({"weights": weights, **how})
        return Update(title, released.model_copy(
            update={"schedule": schedule, "update": update}), 0)  # fmt: skip

    plain = released.model_dump(mode="json")
    return {
        "head-only": small("embedding layer only", learns="embedding", rate=HEAD_RATE),
        "gentle": small("gentle fine-tune", learns="weights", rate=GENTLE_RATE),
        "retrained": Update("trained anew", released, 1),
    }


def prepared(demo: Path, work: Path) -> FamilyConfig:
    """The demo's family, its cloud model and anchors copied to where updates are trained."""
    source = demo / "models"
    if not (source / "cloud" / "anchors.npy").exists():
        raise UsageError(f"{demo} holds no trained demo: run kinspace demo --out {demo} first")
    return read_family(DEMO_TOML)


def artifacts_of(
    config: FamilyConfig, member: MemberConfig, name: str, *, demo: Path, work: Path
) -> CandidateFolder:
    """Train and export ``member`` in a workspace of its own; its exported files."""
    workspace = Workspace(work / f"{member.name}-{name}")
    models = demo / "models"
    _copied(models / config.cloud.name, workspace.models / config.cloud.name)
    if name == RELEASE:
        _copied(models / member.name, workspace.models / member.name)
    alone = config.model_copy(update={"members": (member,)})
    _stamp_cloud(alone, workspace)
    if name == RELEASE:
        _stamp_member(alone, workspace)
    train(alone, workspace)
    export(alone, workspace)
    return CandidateFolder(workspace.artifacts / member.name)


def _copied(source: Path, target: Path) -> None:
    """Weights and anchors, without logs."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("weights.safetensors", "anchors.npy"):
        if (source / name).exists() and not (target / name).exists():
            shutil.copy(source / name, target / name)


def _stamp_cloud(config: FamilyConfig, workspace: Workspace) -> None:
    """The copied cloud model counts as trained."""
    from registry.stages import cloud_inputs, family_of

    inputs = cloud_inputs(family_of(config, workspace))
    workspace.once(f"train-{config.cloud.name}", inputs, lambda: None)


def _stamp_member(config: FamilyConfig, workspace: Workspace) -> None:
    from registry.stages import family_of, member_inputs

    [member] = config.members
    inputs = member_inputs(family_of(config, workspace), member)
    workspace.once(f"train-{member.name}", inputs, lambda: None)
