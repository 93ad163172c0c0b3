"""Users' own data: two forms are read, every mistake is named with its row and the cure."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from compat.dataset import UNLABELLED, read_dataset, read_unlabelled
from compat.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label in "abcdefgh":
        for turn in range(3):
            file = tmp_path / "set" / label / f"{turn}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (turn * 50, ord(label), 0)).save(file)
    return tmp_path / "set"


def manifest(root: Path, *rows: str, header: str = "path,label,split,role") -> Path:
    file = root / "manifest.csv"
    file.write_text("\n".join((header, *rows)))
    return file


def test_a_folder_per_class_is_class_disjoint_and_has_both_roles(root: Path) -> None:
    dataset = read_dataset(root)
    assert len(dataset.images) == 24
    trained = {image.label for image in dataset.of("train")}
    tested = {image.label for image in dataset.of("test")}
    assert trained
    assert tested
    assert not trained & tested
    assert {image.role for image in dataset.of("test")} == {"query", "gallery"}
    assert all(image.role_is_drawn for image in dataset.images)


def test_adding_a_class_moves_no_other(root: Path) -> None:
    before = {image.label: image.split for image in read_dataset(root).images}
    (root / "new").mkdir()
    Image.new("RGB", (9, 9)).save(root / "new" / "0.png")
    after = {image.label: image.split for image in read_dataset(root).images}
    assert before.items() <= after.items()


def test_role_folders_win(root: Path) -> None:
    (root / "a" / "gallery").mkdir()
    Image.new("RGB", (9, 9)).save(root / "a" / "gallery" / "x.jpg")
    [found] = [image for image in read_dataset(root).images if image.path.name == "x.jpg"]
    assert (found.label, found.role, found.role_is_drawn) == ("a", "gallery", False)


def test_csv_and_parquet_say_the_same(root: Path) -> None:
    rows = {"path": ["a/0.png", "b/0.png"], "label": ["a", "b"], "split": ["train", "test"]}
    table = pyarrow.table(rows | {"role": ["query", "gallery"], "seller": ["x", "y"]})
    pyarrow.parquet.write_table(table, root / "m.parquet")
    csv = manifest(
        root, "a/0.png,a,train,query,x", "b/0.png,b,test,gallery,y",
        header="path,label,split,role,seller",
    )  # fmt: skip
    first, second = read_dataset(csv), read_dataset(root / "m.parquet")
    assert first == second
    assert first.digest == second.digest
    assert first.images[0].columns == {"seller": "x"}


def test_the_digest_sees_every_byte(root: Path) -> None:
    before = read_dataset(root).digest
    Image.new("RGB", (9, 9), "red").save(root / "h" / "2.png")
    assert read_dataset(root).digest != before


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("a/0.png,a,train", "row 2: column 'role'"),
        ("a/0.png,,train,query", "column 'label'"),
        ("a/0.png,a,exam,query", "split 'exam'"),
        ("a/0.png,a,train,asker", "role 'asker'"),
        ("a/9.png,a,train,query", "there is no file"),
        ("../secret.png,a,train,query", "leads out"),
    ],
)
def test_a_bad_row_is_named(row: str, named: str, root: Path) -> None:
    (root.parent / "secret.png").write_bytes(b"x")
    with pytest.raises(DataError, match=named):
        read_dataset(manifest(root, row))


def test_a_label_in_train_and_test_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="stand in train and in test"):
        read_dataset(manifest(root, "a/0.png,a,train,query", "a/1.png,a,test,query"))


def test_a_path_twice_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"row 3: a/0\.png stands twice"):
        read_dataset(manifest(root, "a/0.png,a,train,query", "a/0.png,a,train,gallery"))


def test_other_things_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "m.csv").write_bytes("path,label\n\xe9".encode("latin-1"))
    for path, named in (
        (tmp_path / "empty", "0 classes"),
        (tmp_path / "m.parquet", "not a Parquet file"),
        (tmp_path / "m.csv", "not UTF-8"),
        (tmp_path / "m.txt", "neither a folder"),
    ):
        with pytest.raises(DataError, match=named):
            read_dataset(path)


def test_an_empty_split_says_what_to_fill(root: Path) -> None:
    dataset = read_dataset(manifest(root, "a/0.png,a,train,query"))
    with pytest.raises(DataError, match="split 'test' with role 'gallery'"):
        dataset.of("test", "gallery")


def test_images_without_a_label_are_read_from_a_folder_or_a_listing(root: Path) -> None:
    whole = read_unlabelled(root)
    assert len(whole.images) == 24
    assert {image.label for image in whole.images} == {UNLABELLED}
    listing = root / "some.csv"
    listing.write_text("path,source\na/0.png,mine\nb/1.png,mine\n")
    assert [image.name for image in read_unlabelled(listing).images] == ["a/0.png", "b/1.png"]


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ("file\na/0.png\n", "column 'path' is missing"),
        ("path\nnowhere.png\n", "there is no file"),
        ("path\n../../outside.png\n", "leads out"),
        ("path\n", "holds no image"),
    ],
)
def test_a_listing_that_names_no_image_is_refused(root: Path, listing: str, said: str) -> None:
    file = root / "some.csv"
    file.write_text(listing)
    with pytest.raises(DataError, match=said):
        read_unlabelled(file)


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        read_unlabelled(tmp_path)
