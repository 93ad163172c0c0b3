"""``kinspace device search``: a photo is embedded here; only its embedding leaves the device."""

import json
from pathlib import Path
from typing import Annotated

import typer

from registry.cli_errors import exits


@exits
def search(
    photo: Annotated[Path, typer.Argument(help="image file")],
    home: Annotated[Path, typer.Option(help="the device's folder")],
    server: Annotated[str, typer.Option(help="URL of the search service")],
    k: Annotated[int, typer.Option("-k", "--k", help="how many gallery items")] = 5,
    send_photo: Annotated[
        bool, typer.Option(help="where nothing else is left, let the service embed the photo")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Find the gallery items that look most like a photo.

    A gallery that this device's model may not query is searched by the signed ladder, if any.
    """
    from compat.errors import QueryRefusedError
    from compat.images import read_image
    from edge import search as service
    from edge.device import Device
    from edge.ladder import search_by_ladder

    device = Device(home)
    active, embedder = device.active(), device.embedder()
    tensor = embedder.preprocess.tensor(read_image(photo), str(photo))  # (S, S, 3)
    rung = None
    try:
        found = service.search_many(
            server,
            embedder.embed(tensor[None]),
            space_id=active.manifest.space.id,
            artifact_digest=active.artifact.digest,
            galleries=device.galleries(),
            k=k,
        )
    except QueryRefusedError as refused:
        try:
            rung, found = search_by_ladder(device, server, photo, k=k, may_send_photo=send_photo)
        except QueryRefusedError as error:
            raise QueryRefusedError(f"{refused}. The ladder: {error}") from error
    [hits] = found.results
    if as_json:
        answer = {
            "space": active.manifest.space.id,
            "release": active.manifest.version,
            "member": active.member.name,
            "artifact": active.artifact.digest,
            "rung": rung and rung.kind,
            "left_out": found.left_out,
            "hits": [hit.model_dump() for hit in hits],
        }
        typer.echo(json.dumps(answer))
        return
    for rank, hit in enumerate(hits, start=1):
        typer.echo(f"{rank:>3}  {hit.score:.4f}  {hit.label}  {hit.path}")
    if rung is not None:
        typer.echo(f"found by the ladder: {rung.kind}, {rung.cross:.1%} mAP", err=True)
    if found.left_out:
        words = "this device's model may not be compared with them"
        typer.echo(f"{found.left_out} gallery items were left out: {words}", err=True)
