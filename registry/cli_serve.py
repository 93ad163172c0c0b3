"""``kinspace serve``: the search service and the registry's signed files behind one address."""

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compat.errors import UsageError
from registry.cli_errors import exits


@exits
def serve(
    registry: Annotated[str, typer.Option(help="folder or s3://bucket/prefix of the registry")],
    gallery: Annotated[Path, typer.Option(help="folder of the gallery index")],
    family: Annotated[str, typer.Option(help="family whose stable release is served")],
    version: Annotated[
        str | None, typer.Option(help="serve this release, for a gallery that is not renewed yet")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder of the gallery images, to serve them too")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="trusted root.json; default the registry's first root")
    ] = None,
    photos: Annotated[
        bool, typer.Option(help="embed photos here too, for devices whose users allow it")
    ] = False,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one")] = 8000,
) -> None:
    """Answer searches over HTTP until stopped; prints the URL once it listens."""
    import uvicorn

    from registry.local_release import LocalRelease
    from registry.service import create_app
    from registry.storage.address import open_store

    store = open_store(registry)
    with TemporaryDirectory(prefix="kinspace-") as scratch:
        offered = LocalRelease(store, family, Path(scratch), root=root, version=version)
        embedder = offered.open_cloud() if photos else None
    app = create_app(
        store,
        gallery,
        offered.manifest,
        images_dir=images,
        matrix=offered.matrix,
        photo_embedder=embedder,
    )
    with listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"http://{shown}:{listening.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", ws="none", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on; port 0 picks a free one. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        words = error.strerror or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {words}") from error
