"""Two releases of the tiles whose models know nothing of each other, published and served."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import serving
from tiles import SPACE, candidate, embedder_of, model
from typer.testing import CliRunner, Result

from compat.dataset import Dataset, LabelledImage, read_dataset
from compat.files import digest_of
from compat.ladder import Ladder, ladder_target
from compat.matrix import MAX_MATRIX_BYTES
from compat.space import EmbeddingSpace
from edge.device import Device
from registry.cli_ladder import ladder_app
from registry.gallery_build import build_from_dataset
from registry.keys import KeyFolder
from registry.local_release import LocalRelease
from registry.publish import publish
from registry.repository import Repository
from registry.service import create_app
from registry.storage.files import FileStore

G1, G2 = SPACE, EmbeddingSpace(family=SPACE.family, generation=2, dim=SPACE.dim)
OLD_CLOUD, OLD_SMALL = model(0.0), model(0.05)
NEW_CLOUD, NEW_SMALL = model(-9.0), model(-9.1)  # foreign: another matrix altogether


def repository_in(root: Path) -> Repository:
    return Repository(FileStore(root / "registry"), KeyFolder(root / "keys"))


def release(root: Path, version: str, cloud: bytes, small: bytes, space: EmbeddingSpace) -> None:
    made = candidate(
        root / "data", version=version, cloud=cloud, members={"small": small}, space=space
    )
    publish(repository_in(root), made)


def gallery(root: Path, name: str, dataset: Dataset, cloud: bytes, space: EmbeddingSpace) -> None:
    """All gallery images of ``dataset`` in the folder ``root / name``."""
    build_from_dataset(
        root / name, dataset, embedder_of(cloud, root), space=space, model_digest=digest_of(cloud)
    )


def two_releases(root: Path) -> Device:
    """A device in ``root / "phone"`` that ran 1.0.0, then took the foreign 2.0.0."""
    repository_in(root).create()
    repository_in(root).add_family(G1.family)
    release(root, "1.0.0", OLD_CLOUD, OLD_SMALL, G1)
    device = Device(root / "phone")
    device.init(str(root / "registry"), repository_in(root).trusted_root, G1.family)
    device.update()
    release(root, "2.0.0", NEW_CLOUD, NEW_SMALL, G2)
    assert device.update().version == "2.0.0"
    return device


def ladder_publish(root: Path, *more: str) -> Result:
    where = ("--registry", root / "registry", "--keys", root / "keys", "--data", root / "data")
    versions = ("--family", G1.family, "--new", "2.0.0", "--old", "1.0.0")
    arguments = ["publish", *where, *versions, *more]
    return CliRunner().invoke(ladder_app, [str(each) for each in arguments])


@contextmanager
def served(
    root: Path, *, photos: bool = False, version: str = "1.0.0", name: str = "g"
) -> Iterator[str]:
    """The gallery ``root / name``, by a release and the matrix as it is now."""
    scratch = root / f"scratch-{version}"
    scratch.mkdir(exist_ok=True)
    store = FileStore(root / "registry")
    by = LocalRelease(store, G1.family, scratch, version=version)
    embedder = by.open_cloud() if photos else None
    app = create_app(store, root / name, by.manifest, matrix=by.matrix, photo_embedder=embedder)
    with serving(app) as url:
        yield url


def photo_of(root: Path) -> LabelledImage:
    return read_dataset(root / "data").of("test", "query")[3]


def ladder_of(root: Path) -> Ladder:
    name = ladder_target(G2, "small", G1.id)
    blob = repository_in(root).read(G1.family, name, max_bytes=MAX_MATRIX_BYTES)
    assert blob is not None
    return Ladder.model_validate_json(blob)


def resigned(root: Path, **over: object) -> Ladder:
    """The signed ladder with other fields, signed again."""
    changed = Ladder.model_validate(ladder_of(root).model_dump() | over)
    name = ladder_target(G2, "small", G1.id)
    repository_in(root).sign_targets(G1.family, {}, moving={name: changed.to_bytes()})
    return changed
