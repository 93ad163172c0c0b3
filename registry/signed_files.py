"""Serve a registry's signed files over HTTP, and nothing else that lies beside them."""

import os
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

FOLDERS = ("metadata", "targets")  # what a TUF client asks for; the rest of the folder stays home


class SignedFiles(StaticFiles):
    """A folder without its hidden files: locks, and parts that are still being written.

    Starlette itself refuses paths and links that lead out of the folder.
    """

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None
        return super().lookup_path(path)


def mount_registry(app: FastAPI, registry_dir: Path) -> None:
    """Serve ``registry_dir`` under ``/registry/``, read only."""
    for name in FOLDERS:
        files = SignedFiles(directory=registry_dir / name, check_dir=False)
        app.mount(f"/registry/{name}", files, name=f"registry-{name}")
