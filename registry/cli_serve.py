"""``kinspace serve``: a registry and the search of a gallery behind one address."""

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
    gallery: Annotated[
        Path | None, typer.Option(help="folder of the gallery index, to answer searches too")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="family whose stable release answers searches")
    ] = None,
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
    tokens: Annotated[
        Path | None, typer.Option(help="file of tokens, to be published to; default: read only")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="requests a second of one client; default: any")
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one")] = 8000,
) -> None:
    """Serve a registry and answer searches over HTTP until stopped; prints the URL once it listens.

    With --gallery and --family photos can be searched; with --tokens the registry can be changed.
    """
    import uvicorn

    from registry.local_release import LocalRelease, first_root
    from registry.metrics import Metrics
    from registry.registry_app import create_registry_app
    from registry.service import create_app
    from registry.storage.address import open_store
    from registry.tokens import TokenBook
    from registry.upload_guard import RegistryGuard

    store = open_store(registry)
    guard = RegistryGuard(store, TokenBook(tokens), first_root(store, root)) if tokens else None
    if gallery and family:
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
            guard=guard,
            per_second=rate,
        )
    elif gallery or family or images or version or photos:
        raise UsageError("a search needs both: --gallery, and --family whose release answers")
    else:
        app = create_registry_app(store, Metrics(), guard=guard, per_second=rate)
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
