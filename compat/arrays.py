"""Embeddings on disk: one array a file, written atomically, read without running anybody's code."""

import io
from pathlib import Path

import numpy as np

from compat.errors import CorruptError
from compat.files import read_bounded, write_atomic
from compat.preprocess import Floats

MAX_ARRAY_BYTES = 2**34


def write_array(path: Path, rows: Floats) -> None:
    """(N, D) float32 as ``.npy``. Raises UsageError when it cannot be written."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def read_array(path: Path) -> Floats:
    """What `write_array` wrote: (N, D) float32.

    Raises:
        CorruptError: it is something else. Remedy: remove it and run its stage again.
        UsageError: there is no such file.
    """
    try:
        rows = np.load(io.BytesIO(read_bounded(path, MAX_ARRAY_BYTES)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptError(f"{path} holds no array: remove it, then run its stage again") from error
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.ndim != 2:
        raise CorruptError(f"{path} holds no (N, D) float32: remove it, run its stage again")
    return rows
