"""Where fetched packages and rendered images live, and how a file gets there whole or not at all.

The folder is ``$KINSPACE_CACHE``, else ``~/.cache/kinspace``. Readers see the old bytes or the new,
never a part: every write goes to a temporary neighbour that is renamed over the target.
"""

import hashlib
import json
import os
from pathlib import Path


class ChecksumError(Exception):
    """A fetched file is not the pinned one. Nothing was kept; fetch again or report it."""


class StaleError(Exception):
    """A folder holds pictures of another recipe. Remove it, then run again."""


def cache_folder() -> Path:
    """The cache's root: ``$KINSPACE_CACHE``, else ``~/.cache/kinspace`` (made when missing)."""
    named = os.environ.get("KINSPACE_CACHE")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "kinspace"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in bounded pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_atomic(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` in one step.

    ``durable`` waits for the disk. Rendered images pass False: they are cheap to make again, there
    are tens of thousands, and an empty file left by a power cut is rendered anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """True when ``path`` is a file with something in it; parts never carry the final name."""
    return path.is_file() and path.stat().st_size > 0


def claim_folder(folder: Path, recipe: dict[str, int]) -> None:
    """Note in the folder what its pictures are made by; what is there by another is refused.

    Raises StaleError, with nothing written, when the folder's note says another recipe.
    """
    note = folder / "recipe.json"
    if is_complete(note) and json.loads(note.read_text(encoding="utf-8")) != recipe:
        raise StaleError(f"{folder} holds pictures of another recipe: remove it, then run again")
    write_atomic(note, json.dumps(recipe).encode())


def adopt(fetched: Path, path: Path, sha256: str) -> None:
    """Move a fetched file to ``path`` if it has the pinned SHA-256.

    Raises ChecksumError, with ``fetched`` removed and ``path`` as it was, when it has another.
    """
    found = sha256_of(fetched)
    if found != sha256:
        fetched.unlink()
        raise ChecksumError(f"{path.name}: SHA-256 is {found}, pinned {sha256}; nothing was kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    with fetched.open("rb") as file:
        os.fsync(file.fileno())
    fetched.replace(path)
