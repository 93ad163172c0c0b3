"""The image list every command here writes and any user's own images can have: one CSV a set.

``path`` is relative to the CSV. ``label`` names what is shown; ``role`` is ``query`` or
``gallery``; ``split`` is ``train``, ``val`` or ``test``. More columns may follow.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.data.cache import write_atomic

OBJECT_COLUMNS = (
    "path",
    "label",
    "split",
    "role",
    "view",
    "library",
    "category",
    "split_catalogue",
    "creator",
)


def write_manifest(path: Path, rows: Iterable[dict[str, str]], columns: Sequence[str]) -> int:
    """Write rows in the given order, whole or not at all; the number written.

    Raises ValueError when a row has a column that is not among ``columns``.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    write_atomic(path, text.getvalue().encode())
    return count


def read_manifest(path: Path) -> list[dict[str, str]]:
    """All rows, in file order."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
