"""A finished release that a new cloud model has to get on with: its models, or only its vectors.

A **workspace** (or its ``models`` folder, or the cloud model's run folder in it) is read from what
training left in each run folder: run.json, weights.safetensors, and classes.json of the head. A
**table** is all that is left of a black box: Parquet with the columns ``path`` and ``vector``, or
NAME.npy (N, K) beside NAME.csv with the column ``path``; paths are those of the family's data set.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import nn

from compat.arrays import MAX_ARRAY_BYTES, read_array
from compat.dataset import LabelledImage
from compat.embedding import unit_rows
from compat.errors import CorruptError, DataError, UsageError
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats, Preprocess
from server_models.checkpoint import MAX_CHECKPOINT_BYTES, load_weights, read_weights
from server_models.cloud_config import CloudConfig
from server_models.config import MAX_CONFIG_BYTES
from server_models.embed import embed_all
from server_models.heads import NormalisedHead
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all
from server_models.query_net import Net, build
from server_models.run_folder import RunFolder

MAX_CLASSES_BYTES = 2**26


@dataclass(frozen=True)
class OldModel:
    """One trained model, ready to embed."""

    name: str
    net: Net
    preprocess: Preprocess
    dim: int
    digest: str  # of its weights

    def embed(self, images: Sequence[LabelledImage]) -> Floats:
        """(N, K), rows of L2 norm 1."""
        pixels = decode_all(images, self.preprocess, title=f"decode for {self.name}").pixels
        return embed_all(self.net, self.preprocess, pixels, title=f"embed by {self.name}")


@dataclass(frozen=True)
class OldVectors:
    """What a black box said, image by image."""

    name: str
    rows: Floats  # (N, K)
    number: Mapping[str, int]  # path -> row
    digest: str

    @property
    def dim(self) -> int:
        return int(self.rows.shape[1])

    def embed(self, images: Sequence[LabelledImage]) -> Floats:
        """(N, K), rows of L2 norm 1. Raises DataError: the table lacks some of the images."""
        if missing := [image.name for image in images if image.name not in self.number]:
            raise DataError(
                f"{self.name} lacks the old vectors of {len(missing)} of {len(images)} images of "
                f"split {images[0].split!r} ({', '.join(missing[:3])} ...): add them"
            )
        return unit_rows(self.rows[[self.number[image.name] for image in images]], self.name)


@dataclass(frozen=True)
class OldRelease:
    """The gallery model that was, its classifier by class, and the query models of its family."""

    label: str
    cloud: OldModel | OldVectors
    head: Mapping[str, Floats]  # class -> row (K,); empty where it is not known
    members: tuple[OldModel, ...] = ()
    models: Path | None = None  # the folder of its run folders


def read_release(path: Path) -> OldRelease:
    """Read what ``--from`` names.

    Raises:
        UsageError: nothing of that kind is there. CorruptError: it is damaged.
    """
    if path.suffix in (".parquet", ".npy"):
        table = _read_table(path)
        return OldRelease(path.stem, table, {})
    models = path / "models" if (path / "models").is_dir() else path
    alone = (models / "run.json").is_file()  # a run folder: its siblings are the members
    root = models.parent if alone else models
    found = {run.parent: _recorded(run) for run in sorted(root.glob("*/run.json"))}
    clouds = [
        each for each, of in found.items() if "margin" in of and (not alone or each == models)
    ]
    if len(clouds) != 1:
        raise UsageError(
            f"{path} holds {len(clouds)} trained cloud models: give a workspace of kinspace train, "
            "the cloud model's run folder in it, or a table of vectors (.parquet, or .npy + .csv)"
        )
    cloud, head = read_cloud(RunFolder(clouds[0]))
    members = tuple(
        read_member(RunFolder(each))
        for each, of in found.items()
        if "aim" in of and (each / "weights.safetensors").exists()
    )
    label = (root.resolve().parent if root.name == "models" else root.resolve()).name
    return OldRelease(label, cloud, head, members, root)


def read_cloud(folder: RunFolder) -> tuple[OldModel, dict[str, Floats]]:
    """A trained gallery model and its head by class; no rows where the classes were not kept."""
    recorded = _recorded(folder.path / "run.json")
    recorded.pop("start", None)  # an upgrade's is the digest of the weights that it began with
    cloud, dim = _config(CloudConfig, recorded), int(recorded["dim"])
    head = read_weights(folder.weights)["head.weight"]
    net = build(cloud, dim)
    load_weights(folder.weights, nn.ModuleDict({"net": net, "head": NormalisedHead(*head.shape)}))
    model = OldModel(cloud.name, net.eval(), cloud.preprocess, dim, weights_digest(folder))
    if not folder.classes.exists():
        return model, {}
    classes = json.loads(read_bounded(folder.classes, MAX_CLASSES_BYTES))
    if len(classes) != len(head):
        raise CorruptError(f"{folder.classes} names {len(classes)} classes, the head {len(head)}")
    return model, dict(zip(classes, head.numpy(), strict=True))


def weights_digest(folder: RunFolder) -> str:
    return digest_of(read_bounded(folder.weights, MAX_CHECKPOINT_BYTES))


def read_member(folder: RunFolder) -> OldModel:
    recorded = _recorded(folder.path / "run.json")
    member, dim = _config(MemberConfig, recorded), int(recorded["dim"])
    net = build(member, dim)
    load_weights(folder.weights, net)
    return OldModel(member.name, net.eval(), member.preprocess, dim, weights_digest(folder))


def _recorded(run: Path) -> dict[str, Any]:
    """What run.json says of the run's config."""
    try:
        config: dict[str, Any] = json.loads(read_bounded(run, MAX_CONFIG_BYTES))["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{run} describes no training run: {error!r}") from error
    return config


Config = TypeVar("Config", CloudConfig, MemberConfig)


def _config(kind: type[Config], recorded: Mapping[str, Any]) -> Config:
    """A later version's run may say more than the section holds."""
    try:
        return kind.model_validate(
            {name: recorded[name] for name in kind.model_fields if name in recorded}
        )
    except ValidationError as error:
        raise CorruptError(
            f"{recorded.get('name')}: run.json does not describe it: {error}"
        ) from error


def _read_table(path: Path) -> OldVectors:
    blob = read_bounded(path, MAX_ARRAY_BYTES)
    names, rows = _parquet(path, blob) if path.suffix == ".parquet" else _npy(path)
    if len(names) != len(rows):
        raise DataError(f"{path}: {len(rows)} vectors, {len(names)} paths")
    if len(set(names)) != len(names):
        raise DataError(f"{path}: a path stands twice")
    return OldVectors(path.name, rows, {n: i for i, n in enumerate(names)}, digest_of(blob))


def _npy(path: Path) -> tuple[list[str], Floats]:
    beside = path.with_suffix(".csv")
    listed = csv.DictReader(io.StringIO(read_bounded(beside, MAX_ARRAY_BYTES).decode("utf-8-sig")))
    names = [row.get("path") or "" for row in listed]
    if not names or not all(names):
        raise DataError(f"{beside} needs a column 'path', filled in every row")
    return names, read_array(path)


def _parquet(path: Path, blob: bytes) -> tuple[list[str], Floats]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(blob), columns=["path", "vector"])
        rows = np.array(table["vector"].to_pylist(), dtype=np.float32)
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} needs the columns 'path' and 'vector' (N vectors of one length): {error}"
        ) from error
    if rows.ndim != 2:
        raise DataError(f"{path}: 'vector' must hold lists of one length")
    return [str(name) for name in table["path"].to_pylist()], rows
