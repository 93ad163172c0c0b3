"""What a verification stands on: a test set that leaks and a gallery of two models are refused."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from compat.dataset import Dataset, read_dataset
from compat.errors import DataError, RefusedError
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from registry.candidate import CandidateFolder
from registry.evidence_check import check_gallery, check_leakage
from registry.gallery import GalleryRow, build
from registry.gallery_build import build_from_dataset, embed_images, gallery_images, item_id
from registry.judging import embedder_of
from registry.pipeline import verify_family
from registry.workspace import Workspace
from server_models.config import FamilyConfig
from server_models.export import export_onnx_fp32

SPACE = EmbeddingSpace(family="shapes", generation=1, dim=16)


@pytest.fixture(scope="module")
def dataset(shapes: Path) -> Dataset:
    return read_dataset(shapes / "images")


def copies(dataset: Dataset, folder: Path, **over: str) -> Dataset:
    """The set with its test queries added once more, encoded anew, as ``over`` says."""
    more = []
    for row, image in enumerate(dataset.of("test", "query")):
        blob = io.BytesIO()
        Image.open(image.path).save(blob, "JPEG", quality=95, subsampling=0)
        path = folder / f"{row}.jpg"
        path.write_bytes(blob.getvalue())
        more.append(replace(image, path=path, name=f"copy-{row}", **over))
    return Dataset((*dataset.images, *more))


def test_two_drawings_that_came_out_equal_are_said(dataset):
    """True of the drawn set: one polygon was moved twice to the same place."""
    [words] = check_leakage(dataset)
    assert words.startswith("1 of 12 queries stand in the gallery byte for byte, taken out there")


def test_attack_test_pictures_in_training(dataset, tmp_path):
    # the gallery twin of a query is one of them
    with pytest.raises(DataError, match=r"13 of 24 test pictures stand in training.*copy-"):
        check_leakage(copies(dataset, tmp_path, split="train", label="c0"))


def test_attack_query_pictures_in_the_gallery(dataset, tmp_path):
    with pytest.raises(DataError, match="12 of 12 queries stand in the gallery too, encoded anew"):
        check_leakage(copies(dataset, tmp_path, role="gallery"))


def test_equal_bytes_on_both_sides_are_said_and_not_refused(dataset):
    again = [
        replace(each, role="gallery", name=f"again/{each.name}")
        for each in dataset.of("test", "query")
    ]
    [words] = check_leakage(Dataset((*dataset.images, *again)))
    assert words.startswith("12 of 12 queries stand in the gallery byte for byte")


def test_a_leaking_family_is_not_measured(family: FamilyConfig, shapes: Path, tmp_path: Path):
    """Nothing was exported either: the leak is what is said, and no report is written."""
    images = tmp_path / "images"
    shutil.copytree(shapes / "images", images)
    rows = (images / "manifest.csv").read_text().splitlines()
    leaked = next(row for row in rows if ",test,query," in row).split(",")[0]
    shutil.copy(images / leaked, images / "leaked.png")
    (images / "manifest.csv").write_text("\n".join([*rows, "leaked.png,c0,train,query,any"]))
    data = family.data.model_copy(update={"path": images / "manifest.csv"})
    workspace = Workspace(tmp_path / "run")
    with pytest.raises(DataError, match="1 of 24 test pictures stand in training too"):
        verify_family(family.model_copy(update={"data": data}), workspace)
    assert not workspace.report_json.exists()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> CandidateFolder:
    """An exported cloud model: its weights do not matter here."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 16)
    )
    folder = CandidateFolder(tmp_path_factory.mktemp("cloud"))
    folder.write(
        name="cloud",
        preprocess=Preprocess(size_px=32),
        macs=1,
        params=1,
        exported={("onnxruntime", "fp32"): export_onnx_fp32(net.eval(), 32)},
    )
    return folder


def test_a_gallery_by_the_cloud_model_passes_whole(dataset, cloud, tmp_path):
    model = cloud.read()
    embedder = embedder_of(cloud, model, model.artifacts[0], SPACE)
    digest = model.artifacts[0].digest
    built = build_from_dataset(tmp_path, dataset, embedder, space=SPACE, model_digest=digest)
    assert check_gallery(tmp_path, dataset, cloud, SPACE) == built.rows == 36


def test_attack_a_row_by_another_model_under_the_same_stamp(dataset, cloud, tmp_path):
    model, images = cloud.read(), gallery_images(dataset)
    embedder = embedder_of(cloud, model, model.artifacts[0], SPACE)
    rows = embed_images(embedder, [each.path for each in images])
    rows[5] += np.random.default_rng(0).normal(scale=0.1, size=16).astype(np.float32)
    items = [GalleryRow(item_id(each.name), each.name, each.label) for each in images]
    build(tmp_path, rows, items, space=SPACE, model_digest=model.artifacts[0].digest)
    with pytest.raises(RefusedError, match=f"1 of 36 sampled.*first {images[5].name}"):
        check_gallery(tmp_path, dataset, cloud, SPACE)
