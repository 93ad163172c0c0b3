"""The stages that need torch: train a family, export it. Each is done once for equal inputs."""

from functools import partial

import numpy as np
from rich.progress import Progress

from compat.errors import ConfigError
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats
from compat.terminal import STDERR
from registry.candidate import CandidateFolder
from registry.workspace import Workspace
from server_models.checkpoint import MAX_CHECKPOINT_BYTES
from server_models.config import FamilyConfig, MemberConfig
from server_models.export import count_macs, count_params, export_artifacts, export_onnx_fp32
from server_models.family import Family, embed_all
from server_models.lqf.adaptation import Adaptation, read_adaptation
from server_models.pixels import decode_all
from server_models.previous import decides

CALIBRATION_IMAGES = 256  # of the training split, drawn by the family's seed


def family_of(config: FamilyConfig, workspace: Workspace) -> Family:
    return Family(config, workspace.models)


def train(config: FamilyConfig, workspace: Workspace) -> None:
    """The cloud model, then each member in its space. Killed anywhere, it goes on from there."""
    family = family_of(config, workspace)
    workspace.once(f"train-{config.cloud.name}", cloud_inputs(family), family.train_cloud)
    for member in config.members:
        if adapted_from(family, member):
            continue
        inputs = member_inputs(family, member)
        workspace.once(f"train-{member.name}", inputs, partial(family.train_member, member))


def export(config: FamilyConfig, workspace: Workspace) -> None:
    """The cloud model as one ONNX file, each member for every runtime and precision."""
    family = family_of(config, workspace)
    cloud = config.cloud.name
    workspace.once(
        f"export-{cloud}", cloud_inputs(family), partial(_export_cloud, family, workspace)
    )
    for member in config.members:
        inputs = member_inputs(family, member)
        workspace.once(
            f"export-{member.name}",
            inputs,
            partial(_export_member, family, member, workspace),
        )


def cloud_inputs(family: Family) -> object:
    """All that decides the cloud model."""
    config = family.config.model_dump(mode="json", include={"cloud", "dim", "seed"})
    return {**config, "data": family.dataset.digest, "bad": family.config.data.on_bad_image}


def member_inputs(family: Family, member: MemberConfig) -> object:
    """All that decides a member: its own section and everything that decides the cloud model."""
    inputs = {"cloud": cloud_inputs(family), "member": decides(member)}
    record = adapted_from(family, member)
    return {**inputs, "adaptation": record.model_dump(mode="json")} if record else inputs


def adapted_from(family: Family, member: MemberConfig) -> Adaptation | None:
    """How ``kinspace adapt`` made the member; None for one that is trained.

    Raises:
        ConfigError: the member it came from was trained anew. Remedy: adapt again.
    """
    kept = read_adaptation(family.folder(member.name))
    if kept is None:
        return None
    record, _ = kept
    weights = read_bounded(family.folder(record.member).weights, MAX_CHECKPOINT_BYTES)
    if digest_of(weights) != record.weights_digest:
        raise ConfigError(
            f"{member.name} was adapted from other weights of {record.member} than there are now: "
            "run kinspace adapt again"
        )
    return record


def _export_cloud(family: Family, workspace: Workspace) -> None:
    cloud = family.config.cloud
    net = family.cloud().net
    CandidateFolder(workspace.artifacts / cloud.name).write(
        name=cloud.name,
        preprocess=cloud.preprocess,
        macs=count_macs(net, cloud.preprocess.size_px),
        params=count_params(net),
        exported={("onnxruntime", "fp32"): export_onnx_fp32(net, cloud.preprocess.size_px)},
    )


def _export_member(family: Family, member: MemberConfig, workspace: Workspace) -> None:
    net, recipe = family.member(member), member.preprocess
    folder = CandidateFolder(workspace.artifacts / member.name)
    calibration = _calibration(family, member)
    with Progress(transient=True, console=STDERR) as bar:
        shown = bar.add_task(f"export {member.name}")

        def progress(label: str, done: int, total: int) -> None:
            title = f"export {member.name} {label}"
            bar.update(shown, description=title, completed=done, total=total)

        files = export_artifacts(net, recipe.size_px, calibration, progress=progress)
    queries = decode_all(
        family.dataset.of("test", "query"), recipe, title=f"decode queries for {member.name}"
    )
    folder.write_reference(embed_all(net, recipe, queries.pixels, title="reference embeddings"))
    folder.write(
        name=member.name,
        preprocess=recipe,
        macs=count_macs(net, recipe.size_px),
        params=count_params(net),
        exported={(file.runtime, file.precision): file.blob for file in files},
    )


def _calibration(family: Family, member: MemberConfig) -> Floats:
    """Real images of the training split, both roles: (N, S, S, 3) float32 normalised."""
    images = family.dataset.of("train")
    rng = np.random.default_rng(family.config.seed)
    rows = rng.permutation(len(images))[:CALIBRATION_IMAGES]
    decoded = decode_all(
        [images[row] for row in rows], member.preprocess, title="decode for calibration"
    )
    return member.preprocess.normalised(decoded.pixels)
