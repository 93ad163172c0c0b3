"""The upgrade table: which classes a version sees, and what a row says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import upgrade
from benchmarks.upgrade import INDEPENDENT, METHODS, OURS, PAIRS, Chain, rows_of, table_of
from compat.arrays import write_array
from compat.dataset import Dataset, LabelledImage
from server_models.pixels import Decoded


def image(label: str, split: str, role: str, number: int) -> LabelledImage:
    name = f"{label}-{role}-{number}"
    return LabelledImage(Path(name), name, label, split, role)


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Every model is its stored embeddings: later versions are less noisy, others are strangers."""
    monkeypatch.setattr(upgrade, "cache_folder", lambda: tmp_path)
    labels = [f"c{number}" for number in range(12)]
    train = tuple(image(label, "train", "query", n) for label in labels for n in range(2))
    test = tuple(
        image(label, "test", role, n)
        for label in labels
        for role in ("query", "gallery")
        for n in range(3)
    )
    chain = Chain("emoji", "test")
    chain.__dict__["dataset"] = Dataset(train + test)
    chain.__dict__["_learned"] = Decoded(train, np.zeros((len(train), 2, 2, 3), np.uint8))
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    for version, noise in ((1, 0.6), (2, 0.3), (3, 0.1)):
        for method in METHODS if version > 1 else (INDEPENDENT,):
            for what, images in (("queries", chain.queries), ("gallery", chain.gallery)):
                rows = np.eye(12)[[labels.index(i.label) for i in images]]
                rows = rows + noise * rng.normal(size=rows.shape)
                if method == INDEPENDENT and version > 1:
                    rows = rows @ np.linalg.matrix_power(turned, version)
                path = chain.runs / f"{version} {method}" / f"test {what}.npy"
                write_array(path, rows.astype(np.float32))
    return chain


def test_each_version_sees_the_classes_of_the_one_before_and_more(chain: Chain) -> None:
    seen = [set(chain.seen_by(version).classes) for version in (1, 2, 3)]
    assert [len(classes) for classes in seen] == [3, 6, 12]
    assert seen[0] < seen[1] < seen[2]


def test_a_better_model_in_the_old_space_gains_and_a_stranger_does_not(chain: Chain) -> None:
    ours, stranger = list(rows_of(chain, OURS)), list(rows_of(chain, INDEPENDENT))
    assert [(row["query"], row["gallery"]) for row in ours] == [(str(n), str(o)) for n, o in PAIRS]
    assert all(row["criterion"] for row in ours)
    assert all(row["update_gain"] for row in ours)
    assert not any(row["criterion"] for row in stranger)
    assert not any(row["update_gain"] for row in stranger)
    table = table_of(ours + stranger)
    assert table.count("holds") == len(ours)
    assert table.count("| undefined |") == len(stranger)
