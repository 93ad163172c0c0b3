"""Arrays on disk: what was written is read; anything else is refused without running it."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from compat.arrays import read_array, write_array
from compat.errors import CorruptError, UsageError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_array(tmp_path / "new" / "rows.npy", rows)
    assert np.array_equal(read_array(tmp_path / "new" / "rows.npy"), rows)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["rows.npy"]


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (witness,)

    (tmp_path / "rows.npy").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(CorruptError, match="holds no array"):
        read_array(tmp_path / "rows.npy")
    assert not witness.exists()


def test_other_arrays_and_no_file_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "ints.npy", np.arange(3))
    with pytest.raises(CorruptError, match="float32"):
        read_array(tmp_path / "ints.npy")
    with pytest.raises(UsageError, match=r"none\.npy"):
        read_array(tmp_path / "none.npy")
