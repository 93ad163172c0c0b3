"""Serve a registry's signed files over HTTP, and nothing else that lies beside them."""

import os
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from compat.errors import NotFoundError, OfflineError
from registry.repository import MAX_METADATA_BYTES
from registry.storage.files import FileStore
from registry.storage.port import NAME, Store

FOLDERS = ("metadata", "targets")  # what a TUF client asks for; the rest of the folder stays home
CHUNK_BYTES = 2**22


class SignedFiles(StaticFiles):
    """A folder without its hidden files: locks, and parts that are still being written.

    Starlette itself refuses paths and links that lead out of the folder.
    """

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None
        return super().lookup_path(path)


def mount_registry(app: FastAPI, registry: Path | Store) -> None:
    """Serve ``registry`` under ``/registry/``, read only: a folder as it is, a store streamed."""
    folder = registry.folder if isinstance(registry, FileStore) else registry
    if not isinstance(folder, Path):
        _add_store(app, folder)
        return
    for name in FOLDERS:
        files = SignedFiles(directory=folder / name, check_dir=False)
        app.mount(f"/registry/{name}", files, name=f"registry-{name}")


def stream(store: Store, name: str, size_bytes: int) -> Iterator[bytes]:
    """The bytes of ``name``, a few MiB in memory at a time."""
    for start in range(0, size_bytes, CHUNK_BYTES):
        yield store.get_range(name, start, n_bytes=min(CHUNK_BYTES, size_bytes - start))


def _add_store(app: FastAPI, store: Store) -> None:
    @app.api_route(
        "/registry/{folder}/{name:path}", methods=["GET", "HEAD"], include_in_schema=False
    )
    def file(folder: str, name: str, request: Request) -> Response:
        if folder not in FOLDERS or not NAME.fullmatch(name):
            raise HTTPException(404)
        try:
            return _answer(store, f"{folder}/{name}", request)
        except NotFoundError as error:
            raise HTTPException(404) from error
        except OfflineError as error:
            raise HTTPException(503, "the registry's store does not answer") from error


def _answer(store: Store, name: str, request: Request) -> Response:
    """Metadata whole, for the timestamp may be replaced meanwhile; targets, which stay, streamed.

    The caller has checked that it is a name.
    """
    if name.startswith("metadata/"):
        stored = store.get(name, max_bytes=MAX_METADATA_BYTES)
        size_bytes, version, body = len(stored.blob), stored.version, iter((stored.blob,))
    else:
        found = store.stat(name)
        if found is None:
            raise HTTPException(404)
        size_bytes, version = found.size_bytes, found.version
        body = stream(store, name, size_bytes)
    headers = {"ETag": f'"{version.strip(chr(34))}"'}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(size_bytes)
    media_type = "application/json" if name.endswith(".json") else "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    return StreamingResponse(body, headers=headers, media_type=media_type)
