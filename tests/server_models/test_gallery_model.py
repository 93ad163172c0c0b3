"""A gallery model that is only a file, or only what it said."""

from pathlib import Path

import numpy as np
import onnx
import pyarrow
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

from compat.errors import ConfigError, DataError
from compat.preprocess import Preprocess
from server_models.config import read_family
from server_models.export import count_onnx_params, with_channels_last
from server_models.family import Family
from server_models.gallery_model import OnnxGallery, TableGallery

SIDE, DIM = 32, 16


def encoder(folder: Path, *, channels_first: bool, dim: int = DIM) -> Path:
    """A linear encoder of somebody else: mean of 4 x 4 cells, then a projection."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(
        rng.normal(size=(3 * 64, dim)).astype(np.float32), name="weight"
    )
    shape = [3, SIDE, SIDE] if channels_first else [SIDE, SIDE, 3]
    nodes = (
        [] if channels_first else [helper.make_node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2])]
    )
    nodes += [
        helper.make_node(
            "AveragePool", ["x" if channels_first else "c"], ["p"],
            kernel_shape=[4, 4], strides=[4, 4],
        ),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "weight"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", dim])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / f"encoder-{channels_first}.onnx"
    onnx.save(model, file)
    return file


def configured(shapes: Path, folder: Path, cloud: str) -> Family:
    whole = (shapes / "shapes.toml").read_text()
    before, rest = whole.split("[cloud]")
    after = rest[rest.index("[[members]]") :]
    toml = folder / "family.toml"
    images = shapes / "images/manifest.csv"
    toml.write_text(
        f"{before}[cloud]\n{cloud}\n{after}".replace("images/manifest.csv", str(images))
    )
    return Family(read_family(toml), folder / "runs")


ONNX = f'onnx = "encoder-True.onnx"\nmacs = 12000\npreprocess = {{ size_px = {SIDE} }}'


def test_either_layout_lands_in_the_same_place(shapes: Path, tmp_path: Path) -> None:
    images = configured(shapes, tmp_path, ONNX).dataset.of("train")
    both = [
        OnnxGallery(encoder(tmp_path, channels_first=first), Preprocess(size_px=SIDE), DIM)
        for first in (True, False)
    ]
    first, last = (gallery.embed(images, title="embed") for gallery in both)
    assert np.allclose(first, last, atol=1e-6)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_a_foreign_file_ships_as_our_own_do(tmp_path: Path) -> None:
    import onnxruntime

    blob = encoder(tmp_path, channels_first=True).read_bytes()
    turned = with_channels_last(blob)
    images = np.random.default_rng(1).random((3, SIDE, SIDE, 3), dtype=np.float32)
    before, after = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for each, feed in (
            (blob, {"x": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}),
            (turned, {"image": images}),
        )
    )
    assert np.array_equal(before, after)
    assert with_channels_last(turned) == turned
    assert count_onnx_params(blob) == 3 * 64 * DIM


def test_members_learn_from_a_file_and_from_its_table_alike(shapes: Path, tmp_path: Path) -> None:
    encoder(tmp_path, channels_first=True)
    by_file = configured(shapes, tmp_path, ONNX)
    by_file.train_cloud()
    member = by_file.config.members[0]
    by_file.train_member(member)

    images = by_file.dataset.of("train")
    vectors = by_file.gallery_model.embed(images, title="embed")
    table = pyarrow.table(
        {"path": [image.name for image in images], "vector": (3 * vectors).tolist()}
    )
    pyarrow.parquet.write_table(table, tmp_path / "vectors.parquet")
    folder = tmp_path / "table"
    folder.mkdir()
    by_table = configured(shapes, folder, 'vectors = "../vectors.parquet"')
    by_table.train_cloud()
    by_table.train_member(member)
    assert np.allclose(by_table.anchors(), by_file.anchors(), atol=1e-6)
    metrics = [f.folder(member.name).metrics.read_text() for f in (by_file, by_table)]
    assert len(metrics[0].splitlines()) == len(metrics[1].splitlines()) > 0


def test_an_image_without_a_vector_is_named(shapes: Path, tmp_path: Path) -> None:
    encoder(tmp_path, channels_first=True)
    images = configured(shapes, tmp_path, ONNX).dataset.of("train")
    table = pyarrow.table({"path": [images[0].name], "vector": [[1.0] * DIM]})
    pyarrow.parquet.write_table(table, tmp_path / "vectors.parquet")
    gallery = TableGallery(tmp_path / "vectors.parquet", DIM)
    assert gallery.embed(images[:1], title="").shape == (1, DIM)
    with pytest.raises(DataError, match=images[1].name):
        gallery.embed(images, title="")
    with pytest.raises(ConfigError, match="set dim"):
        TableGallery(tmp_path / "vectors.parquet", DIM + 1).embed(images[:1], title="")


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        (ONNX.replace("size_px = 32", "size_px = 48"), "set dim and cloud.preprocess.size_px"),
        (ONNX.replace("encoder-True", "nowhere"), "nowhere.onnx"),
        (ONNX.replace("encoder-True.onnx", "family.toml"), "no ONNX file that loads"),
        ('vectors = "family.toml"', "no Parquet table"),
    ],
)
def test_a_gallery_model_that_does_not_fit_is_refused_before_work(
    shapes: Path, tmp_path: Path, cloud: str, said: str
) -> None:
    from compat.errors import KinspaceError

    encoder(tmp_path, channels_first=True)
    family = configured(shapes, tmp_path, cloud)
    with pytest.raises(KinspaceError, match=said):
        family.train_cloud()
    assert not (tmp_path / "runs" / "cloud" / "anchors.npy").exists()


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        (ONNX + "\nmargin = 0.2", r"cloud\.margin"),
        ('vectors = "v.parquet"\nsteps = 3', r"cloud\.steps"),
        ('backbone = "resnet"', r"cloud\.backbone"),
    ],
)
def test_an_error_speaks_of_the_kind_that_was_meant(
    shapes: Path, tmp_path: Path, cloud: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        configured(shapes, tmp_path, cloud)
