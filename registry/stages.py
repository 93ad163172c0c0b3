"""The stages that need torch: train a family, export it. Each is done once for equal inputs."""

from functools import partial

import numpy as np
from rich.progress import Progress

from compat.errors import ConfigError
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats
from compat.terminal import STDERR
from compat.wire import canonical_json
from registry.candidate import CandidateFolder
from registry.workspace import Workspace
from server_models.checkpoint import MAX_CHECKPOINT_BYTES
from server_models.cloud_config import GivenCloud, OnnxCloud
from server_models.config import FamilyConfig, UpgradeConfig
from server_models.embed import embed_all
from server_models.export import (
    count_macs,
    count_onnx_params,
    count_params,
    export_artifacts,
    export_onnx_fp32,
    with_channels_last,
)
from server_models.family import Family
from server_models.gallery_model import MAX_GALLERY_BYTES, OnnxGallery, TrainedGallery
from server_models.lqf.adaptation import Adaptation, read_adaptation
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all
from server_models.previous import decides
from server_models.terms import terms_without_head
from server_models.upgrade_record import UpgradeRecord, read_record

CALIBRATION_IMAGES = 256  # of the training split, drawn by the family's seed


def family_of(config: FamilyConfig, workspace: Workspace) -> Family:
    return Family(config, workspace.models)


def train(config: FamilyConfig, workspace: Workspace) -> None:
    """The cloud model, then each member in its space. Killed anywhere, it goes on from there.

    Raises:
        ConfigError: the cloud model is an upgrade, and `kinspace upgrade` has to train it first.
    """
    family = family_of(config, workspace)
    train_cloud(family, workspace)
    for member in config.members:
        if adapted_from(family, member):
            continue
        if family.gallery_model.head is None and (terms := terms_without_head(member)):
            STDERR.print(
                f"{config.cloud.name} comes without its classifier: {', '.join(terms)} of "
                f"{member.name} read one synthesised from the class means of its embeddings"
            )
        inputs = member_inputs(family, member)
        workspace.once(f"train-{member.name}", inputs, partial(family.train_member, member))


def train_cloud(family: Family, workspace: Workspace) -> None:
    """The cloud model, unless it is an upgrade, which has its own command."""
    inputs = cloud_inputs(family)
    if upgraded_from(family) is None:
        workspace.once(f"train-{family.config.cloud.name}", inputs, family.train_cloud)


def export(config: FamilyConfig, workspace: Workspace) -> None:
    """Each member for every runtime and precision, then the cloud model as one ONNX file.

    Raises:
        ConfigError: the cloud model is a table, which no file can stand for. The members are there.
    """
    family = family_of(config, workspace)
    for member in config.members:
        inputs = member_inputs(family, member)
        workspace.once(
            f"export-{member.name}",
            inputs,
            partial(_export_member, family, member, workspace),
        )
    cloud = config.cloud.name
    workspace.once(
        f"export-{cloud}", cloud_inputs(family), partial(_export_cloud, family, workspace)
    )


def cloud_inputs(family: Family) -> object:
    """All that decides the cloud model."""
    inputs = plain_cloud_inputs(family)
    record = upgraded_from(family)
    return {**inputs, "upgrade": record.model_dump(mode="json")} if record else inputs


def plain_cloud_inputs(family: Family) -> dict[str, object]:
    """All that decides a cloud model that is trained without constraint."""
    config = family.config.model_dump(mode="json", include={"cloud", "dim", "seed"})
    if isinstance(family.config.cloud, GivenCloud):
        config["file"] = family.cloud_digest
    return {**config, "data": family.dataset.digest, "bad": family.config.data.on_bad_image}


def upgraded_from(family: Family) -> UpgradeRecord | None:
    """How ``kinspace upgrade`` made the cloud model; None for one that `train` trains.

    Raises:
        ConfigError: the family is an upgrade, and not, or otherwise, upgraded yet.
    """
    record = read_record(family.folder(family.config.cloud.name))
    config = family.config.upgrade
    if record is None:
        if config is None:
            return None
        raise ConfigError("the family has a section [upgrade]: run kinspace upgrade --from first")
    inputs_digest = digest_of(canonical_json(plain_cloud_inputs(family)))
    if record.inputs_digest != inputs_digest or record.upgrade != (config or UpgradeConfig()):
        raise ConfigError(
            f"the cloud model is an upgrade of {record.old_release} by another config or other "
            "data than there is now: run kinspace upgrade again"
        )
    return record


def member_inputs(family: Family, member: MemberConfig) -> object:
    """All that decides a member: its own section and everything that decides the cloud model."""
    inputs = {"cloud": cloud_inputs(family), "member": decides(member)}
    if family.unlabelled.images:
        inputs["unlabelled"] = family.unlabelled.digest
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
    cloud, model = family.config.cloud, family.gallery_model
    folder = CandidateFolder(workspace.artifacts / cloud.name)
    if isinstance(model, TrainedGallery):
        size_px = model.preprocess.size_px
        folder.write(
            name=cloud.name,
            preprocess=model.preprocess,
            macs=count_macs(model.net, size_px),
            params=count_params(model.net),
            exported={("onnxruntime", "fp32"): export_onnx_fp32(model.net, size_px)},
        )
    elif isinstance(cloud, OnnxCloud) and isinstance(model, OnnxGallery):
        blob = with_channels_last(read_bounded(cloud.onnx, MAX_GALLERY_BYTES))
        folder.write(
            name=cloud.name,
            preprocess=model.preprocess,
            macs=cloud.macs,
            params=count_onnx_params(blob),
            exported={("onnxruntime", "fp32"): blob},
        )
    else:
        raise ConfigError(
            f"{cloud.name} is only a table of vectors: its members are trained and exported, but "
            "nothing can verify or publish a gallery model that cannot embed. Give its ONNX file "
            "as cloud.onnx"
        )


def _export_member(family: Family, member: MemberConfig, workspace: Workspace) -> None:
    net, recipe = family.member(member), member.preprocess
    folder = CandidateFolder(workspace.artifacts / member.name)
    calibration = calibration_images(family, member)
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


def calibration_images(family: Family, member: MemberConfig) -> Floats:
    """Real images of the training split, both roles: (N, S, S, 3) float32 normalised."""
    images = family.dataset.of("train")
    rng = np.random.default_rng(family.config.seed)
    rows = rng.permutation(len(images))[:CALIBRATION_IMAGES]
    decoded = decode_all(
        [images[row] for row in rows], member.preprocess, title="decode for calibration"
    )
    return member.preprocess.normalised(decoded.pixels)
