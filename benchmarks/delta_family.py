"""Updates of real edge models: the demo's members, their last layer moved, or all a little.

Everything through the project's own training and export; each stage is done once, so a killed run
goes on from where it was.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compat.errors import UsageError
from registry.candidate import CandidateFolder
from registry.stages import cloud_inputs, export, family_of, train
from registry.workspace import Workspace
from server_models.config import FamilyConfig
from server_models.member_config import MemberConfig, UpdateConfig

DEMO_TOML = Path(__file__).resolve().parent.parent / "registry" / "demo.toml"
STEPS = {"edge-s": 300, "edge-m": 150}
HEAD_RATE, GENTLE_RATE = 2e-4, 1e-5  # the members were trained with 2e-3 and 8e-4


@dataclass(frozen=True)
class Update:
    """One way to come from a release to the next."""

    name: str
    title: str
    member: MemberConfig


def updates_of(released: MemberConfig, weights: Path) -> tuple[Update, ...]:
    """What a publisher may do to a released member, whose weights are the file ``weights``."""

    def small(learns: Literal["embedding", "weights"], rate: float) -> MemberConfig:
        changed = {"steps": STEPS[released.name], "learning_rate": rate}
        return released.model_copy(
            update={
                "schedule": released.schedule.model_copy(update=changed),
                "update": UpdateConfig(weights=weights, learns=learns),
            }
        )

    return (
        Update("head-only", "embedding layer only", small("embedding", HEAD_RATE)),
        Update("gentle", "gentle fine-tune", small("weights", GENTLE_RATE)),
    )


def exported(update: Update, config: FamilyConfig, *, demo: Path, work: Path) -> CandidateFolder:
    """The update's exported files: trained and exported when they are not there yet.

    Raises:
        UsageError: ``demo`` is no finished demo.
    """
    member = update.member
    workspace = Workspace(work / f"{member.name}-{update.name}")
    _copy(demo / "models" / config.cloud.name, workspace.models / config.cloud.name)
    alone = config.model_copy(update={"members": (member,)})
    inputs = cloud_inputs(family_of(alone, workspace))
    for stage in ("train", "export"):  # the cloud model is the demo's, and no device runs it
        workspace.once(f"{stage}-{config.cloud.name}", inputs, lambda: None)
    train(alone, workspace)
    export(alone, workspace)
    return CandidateFolder(workspace.artifacts / member.name)


def _copy(source: Path, target: Path) -> None:
    """Weights and anchors, without logs."""
    if not (source / "weights.safetensors").exists():
        raise UsageError(f"{source} holds no trained model: kinspace demo makes it")
    target.mkdir(parents=True, exist_ok=True)
    for name in ("weights.safetensors", "anchors.npy"):
        if (source / name).exists() and not (target / name).exists():
            shutil.copy(source / name, target / name)
