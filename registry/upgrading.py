"""``kinspace upgrade``: a new cloud model for the vectors that are there, and who may search them.

Trains the family's cloud model compatible with an old release, then measures the whole matrix of
query models and gallery generations on the held-out split. Members are trained by ``kinspace
train`` as for any family; called again after it, the matrix has them too. What is exported is
measured by its files: those pairs ``kinspace publish`` signs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from compat.arrays import read_array, write_array
from compat.dataset import LabelledImage
from compat.errors import ConfigError, UsageError
from compat.files import digest_of, write_atomic
from compat.preprocess import Floats
from compat.scores import relevance
from compat.terminal import STDERR
from compat.upgrade_report import Embedded, UpgradeReport, markdown_of, upgrade_report
from compat.wire import canonical_json
from registry.exported_model import ExportedModel, exported_models
from registry.stages import (
    cloud_inputs,
    family_of,
    member_inputs,
    plain_cloud_inputs,
)
from registry.workspace import Workspace
from server_models.cloud_config import CloudConfig
from server_models.config import FamilyConfig, UpgradeConfig
from server_models.family import Family
from server_models.old_release import (
    OldModel,
    OldRelease,
    OldVectors,
    read_cloud,
    read_member,
    read_release,
)
from server_models.pixels import decode_all
from server_models.query_net import Net
from server_models.run_folder import RunFolder
from server_models.train_cloud import train_cloud
from server_models.upgrade_cloud import OldView, start_of, upgrade_cloud
from server_models.upgrade_record import UpgradeRecord, write_record

HELD_OUT = "test"


def upgrade_family(
    config: FamilyConfig,
    workspace: Workspace,
    *,
    release: Path,
    also: Sequence[Path] = (),
    unconstrained: bool = False,
) -> UpgradeReport:
    """Train against ``release``, measure against it and the older ones of ``also``, oldest first.

    Args:
        unconstrained: also train the model without constraint: it doubles the training, and says
            the update gain and what compatibility costs.

    Raises:
        UsageError: a release is not one, is this workspace's own, or two have one name.
        DataError: a table of vectors lacks images. Nothing was trained.
    """
    for path in (release, *also):
        _check_apart(workspace, path)
    releases = [read_release(path) for path in (*also, release)]
    names = [each.label for each in releases] + [config.version]
    if len(set(names)) != len(names):
        raise UsageError(f"releases need names of their own, these are {names}: rename a folder")
    family = family_of(config, workspace)
    sides = (family.dataset.of(HELD_OUT, "query"), family.dataset.of(HELD_OUT, "gallery"))
    old = [each for of in releases for each in _embedded(workspace, of, sides)]

    _train(family, workspace, releases[-1])
    free = _unconstrained(family, workspace, releases[-1]) if unconstrained else None
    new = OldRelease(
        config.version,
        *read_cloud(family.folder(config.cloud.name)),
        tuple(
            read_member(family.folder(member.name))
            for member in config.members
            if workspace.is_done(f"train-{member.name}", member_inputs(family, member))
        ),
        workspace.models,
    )
    stale = _not_exported(family, workspace)
    models = [*old, *_embedded(workspace, new, sides, stale)]
    measured = None if free is None else _sides(workspace, "", free, sides, cloud=True)
    with STDERR.status("measure") as status:
        report = upgrade_report(
            family=config.family,
            version=config.version,
            dataset_digest=family.dataset.digest,
            split=HELD_OUT,
            models=models,
            unconstrained=measured,
            relevance=relevance(*([image.label for image in side] for side in sides)),
            classes=[image.label for image in sides[0]],
            progress=status.update,
        )
    write_atomic(workspace.upgrade / "matrix.json", canonical_json(report.model_dump(mode="json")))
    write_atomic(workspace.upgrade / "matrix.md", markdown_of(report).encode())
    return report


def _not_exported(family: Family, workspace: Workspace) -> frozenset[str]:
    """Models of the new release whose exported files, if any, are of other weights."""
    inputs = {family.config.cloud.name: cloud_inputs(family)}
    inputs |= {each.name: member_inputs(family, each) for each in family.config.members}
    return frozenset(
        name for name, of in inputs.items() if not workspace.is_done(f"export-{name}", of)
    )


def _check_apart(workspace: Workspace, release: Path) -> None:
    ours = workspace.models.resolve()
    theirs = release.resolve()
    if ours in (theirs, theirs / "models", theirs.parent):
        raise UsageError(
            f"{release} is the workspace that would be written: give the new release one of its "
            f"own, e.g. --out {workspace.root}-new"
        )


def _train(family: Family, workspace: Workspace, old: OldRelease) -> None:
    """The new cloud model, its anchors, and the record that it is an upgrade."""
    cloud = trainable(family.config)
    upgrade = family.config.upgrade or UpgradeConfig()
    inputs = plain_cloud_inputs(family)
    record = UpgradeRecord(
        old_release=old.label,
        old_digest=old.cloud.digest,
        inputs_digest=digest_of(canonical_json(inputs)),
        upgrade=upgrade,
    )

    def work() -> None:
        images = family.dataset.of("train")
        seen = _cached(workspace, old.cloud, images)
        decoded = decode_all(images, cloud.preprocess, title=f"decode for {cloud.name}")
        folder = family.folder(cloud.name)
        upgrade_cloud(
            family.config,
            cloud,
            upgrade,
            decoded,
            OldView(seen, old.head, old.cloud.digest, _net_of(old)),
            data_digest=family.dataset.digest,
            folder=folder,
        )
        family.cache_anchors()
        write_record(folder, record)

    workspace.once(
        f"upgrade-{cloud.name}", {"record": record.model_dump(mode="json"), "cloud": inputs}, work
    )


def _net_of(old: OldRelease) -> Net | None:
    return old.cloud.net if isinstance(old.cloud, OldModel) else None


def trainable(config: FamilyConfig) -> CloudConfig:
    """The cloud model's section. Raises ConfigError when it is not one that is trained here."""
    if not isinstance(config.cloud, CloudConfig):
        raise ConfigError(
            f"{config.cloud.name} is a file: an upgrade trains the new gallery model, give its "
            "backbone and schedule in [cloud]. The old one may be a table: --from"
        )
    return config.cloud


def _unconstrained(family: Family, workspace: Workspace, old: OldRelease) -> OldModel:
    """Begun as the new model is."""
    folder = RunFolder(workspace.upgrade / "unconstrained")
    upgrade = family.config.upgrade or UpgradeConfig()
    start = start_of(upgrade, _net_of(old), old.cloud.digest)
    begun = {"start": start.digest} if start else {}

    def work() -> None:
        images, cloud = family.dataset.of("train"), trainable(family.config)
        decoded = decode_all(images, cloud.preprocess, title=f"decode for {cloud.name}")
        digest = family.dataset.digest
        train_cloud(family.config, cloud, decoded, data_digest=digest, folder=folder, start=start)

    workspace.once("train-unconstrained", {**plain_cloud_inputs(family), **begun}, work)
    return read_cloud(folder)[0]


Sides = tuple[Sequence[LabelledImage], Sequence[LabelledImage]]
Embeds = OldModel | OldVectors | ExportedModel


def _embedded(
    workspace: Workspace, release: OldRelease, sides: Sides, stale: Collection[str] = ()
) -> Iterator[Embedded]:
    """The cloud model first, then the members: each exported file, else the trained model.

    Args:
        stale: models whose exported files are not to be measured.
    """
    for model in (release.cloud, *release.members):
        is_cloud = model is release.cloud
        files: tuple[ExportedModel, ...] = ()
        if release.models is not None and model.name not in stale:
            artifacts = Workspace(release.models.parent).artifacts
            files = exported_models(artifacts, model.name, model.dim)
        for file in files:
            found = _sides(workspace, release.label, file, sides, cloud=is_cloud)
            yield replace(found, exported=file.exported)
        if not files:
            yield _sides(workspace, release.label, model, sides, cloud=is_cloud)


def _sides(
    workspace: Workspace, release: str, model: Embeds, sides: Sides, *, cloud: bool
) -> Embedded:
    queries, gallery = (_cached(workspace, model, images) for images in sides)
    return Embedded(release, model.name, queries, gallery, cloud)


def _cached(workspace: Workspace, model: Embeds, images: Sequence[LabelledImage]) -> Floats:
    """Embeddings are kept by model and images: a run that was cut off goes on from there."""
    named = digest_of("\n".join(image.name for image in images).encode())
    path = workspace.upgrade / "embedded" / f"{model.digest[:16]}-{named[:16]}.npy"
    if not path.exists():
        write_array(path, model.embed(images))
    return read_array(path)
