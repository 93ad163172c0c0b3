"""A labelled image set: who is a query, who is a gallery item, who is held out.

Two forms are read. A **manifest** (CSV or Parquet) has the columns ``path`` (relative to the
manifest), ``label``, ``split`` (train / val / test) and ``role`` (query / gallery); further columns
are kept for slices of the report. A **folder per class** has images in ``<label>/`` or in
``<label>/query/`` and ``<label>/gallery/``; a class's split is drawn by a hash of its name, so it
never moves when classes are added, and missing roles alternate.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compat.errors import DataError
from compat.files import digest_of, read_bounded
from compat.images import read_image

MAX_MANIFEST_BYTES = 256 * 2**20
MAX_PARQUET_BYTES = 2**30
SPLITS = ("train", "val", "test")
ROLES = ("query", "gallery")
REQUIRED = ("path", "label", "split", "role")
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".mpo")
)
UNLABELLED = "unlabelled"
TEST_SHARE = 0.3  # of the classes of a folder per class; whole classes, so that tests are unseen


@dataclass(frozen=True)
class LabelledImage:
    """One row: ``columns`` holds what the manifest says beyond the four that are required."""

    path: Path
    name: str  # path relative to the set, the name in reports
    label: str
    split: str
    role: str
    columns: Mapping[str, str] = field(default_factory=dict)
    role_is_drawn: bool = False  # the set says none

    @property
    def a_phone_may_take_it(self) -> bool:
        """Whether a query model learns on it: a query, or an image that the set says no role of."""
        return self.role == "query" or self.role_is_drawn


@dataclass(frozen=True)
class Dataset:
    """Rows in a fixed order."""

    images: tuple[LabelledImage, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every row and the bytes of every image: equal <=> same evidence."""
        whole = hashlib.sha256()
        for image in self.images:
            row = (image.name, image.label, image.split, image.role)
            whole.update("\0".join(row).encode() + digest_of(read_image(image.path)).encode())
        return whole.hexdigest()

    def of(self, split: str, role: str | None = None) -> tuple[LabelledImage, ...]:
        """Rows of one split, and of one role when given.

        Raises:
            DataError: there are none. Remedy: the message names the split and role to fill.
        """
        rows = tuple(
            image for image in self.images if image.split == split and role in (None, image.role)
        )
        if not rows:
            what = f"split {split!r}" + (f" with role {role!r}" if role else "")
            raise DataError(f"the data set has no image of {what}: add some to its manifest")
        return rows


def read_dataset(path: Path) -> Dataset:
    """Read a manifest file, a folder that holds ``manifest.csv``, or a folder per class.

    Raises:
        DataError: what is wrong, in which row, and the cure.
    """
    if path.is_dir():
        manifest = path / "manifest.csv"
        dataset = read_dataset(manifest) if manifest.is_file() else _from_folders(path)
    elif path.suffix == ".csv":
        dataset = _from_rows(_csv_rows(path), path)
    elif path.suffix == ".parquet":
        dataset = _from_rows(_parquet_rows(path), path)
    else:
        raise DataError(f"{path} is neither a folder nor a .csv or .parquet manifest")
    check_disjoint(dataset)
    return dataset


def read_unlabelled(path: Path) -> Dataset:
    """Images to learn from without a label: every one below a folder, or the rows of a CSV.

    Of a CSV only the column ``path`` is read. The images count as queries of the training split.

    Raises:
        DataError: there is no image, or a row names none.
    """
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        names, listing = [f.relative_to(path).as_posix() for f in files], path / "listing"
    elif path.suffix == ".csv":
        names, listing = [row.get("path") or "" for row in _csv_rows(path)], path
    else:
        raise DataError(f"{path} is neither a folder of images nor a .csv with a column 'path'")
    if not names:
        raise DataError(f"{path} holds no image of {', '.join(sorted(IMAGE_SUFFIXES))}")
    fixed = {"label": UNLABELLED, "split": "train", "role": "query"}
    return _from_rows(({**fixed, "path": name} for name in names), listing)


def check_disjoint(dataset: Dataset) -> None:
    """Refuse a set whose test classes or files are also trained on: its numbers would flatter."""
    trained = {image.label for image in dataset.images if image.split == "train"}
    tested = {image.label for image in dataset.images if image.split == "test"}
    if both := sorted(trained & tested):
        raise DataError(
            f"{len(both)} labels stand in train and in test ({', '.join(both[:3])} ...): "
            "retrieval is measured on unseen classes, so give each label one split"
        )


def _csv_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        text = read_bounded(path, MAX_MANIFEST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8 CSV") from error
    return csv.DictReader(io.StringIO(text), strict=True)


def _parquet_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    blob = read_bounded(path, MAX_PARQUET_BYTES)
    try:
        rows: list[Mapping[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(blob)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
    return rows


def _from_rows(rows: Iterable[Mapping[str, Any]], manifest: Path) -> Dataset:
    images: list[LabelledImage] = []
    seen: set[str] = set()
    try:
        for number, row in enumerate(rows, start=2):  # line 1 is the header
            image = _row(row, manifest, f"{manifest.name} row {number}")
            if image.name in seen:
                raise DataError(f"{manifest.name} row {number}: {image.name} stands twice")
            seen.add(image.name)
            images.append(image)
    except csv.Error as error:
        raise DataError(f"{manifest} is not a CSV file that can be read: {error}") from error
    if not images:
        raise DataError(f"{manifest} has no rows")
    return Dataset(tuple(images))


def _row(row: Mapping[str, Any], manifest: Path, where: str) -> LabelledImage:
    for column in REQUIRED:
        if not row.get(column):
            raise DataError(f"{where}: column {column!r} is missing or empty; needed: {REQUIRED}")
    name, split, role = str(row["path"]), str(row["split"]), str(row["role"])
    if split not in SPLITS:
        raise DataError(f"{where}: split {split!r} is none of {SPLITS}")
    if role not in ROLES:
        raise DataError(f"{where}: role {role!r} is none of {ROLES}")
    path = manifest.parent / name
    if not path.resolve().is_relative_to(manifest.parent.resolve()):
        raise DataError(f"{where}: {name} leads out of the manifest's folder: move the image in")
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}")
    further = {str(key): str(row[key]) for key in row if key and key not in REQUIRED}
    return LabelledImage(path, name, str(row["label"]), split, role, further)


def _from_folders(root: Path) -> Dataset:
    images = []
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        label = folder.name
        split = "test" if _fraction(label) < TEST_SHARE else "train"
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        for turn, file in enumerate(files):
            parent = file.parent.name
            is_stated = parent in ROLES and file.parent != folder
            role = parent if is_stated else ROLES[turn % 2]
            name = file.relative_to(root).as_posix()
            images.append(
                LabelledImage(file, name, label, split, role, role_is_drawn=not is_stated)
            )
    labels = {image.label for image in images}
    if len(labels) < 4:
        raise DataError(
            f"{root} holds images of {len(labels)} classes: put each class into a folder of its "
            "own (at least 4), or write a manifest.csv with path,label,split,role"
        )
    return Dataset(tuple(images))


def _fraction(name: str) -> float:
    """A name -> [0, 1), evenly, the same for ever."""
    return int(digest_of(name.encode())[:8], 16) / 2**32
