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
    server: Annotated[
        list[str],
        typer.Option(help="URL of a search service; repeatable, hits of several are merged"),
    ],
    k: Annotated[int, typer.Option("-k", "--k", help="how many gallery items")] = 5,
    send_photo: Annotated[
        bool, typer.Option(help="where nothing else is left, let the service embed the photo")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Find the gallery items that look most like a photo.

    A gallery that this device's model may not query is searched by the signed ladder, if any.
    """
    from edge.device import Device
    from edge.photo_search import search_by_photo

    device = Device(home)
    active = device.active()
    found = search_by_photo(device, server, photo, k=k, may_send_photo=send_photo)
    if as_json:
        answer = {
            "space": active.manifest.space.id,
            "release": active.manifest.version,
            "member": active.member.name,
            "artifact": active.artifact.digest,
            "rung": found.rungs[0].kind if found.rungs else None,
            "left_out": found.left_out,
            "hits": [hit.model_dump() for hit in found.hits],
        }
        typer.echo(json.dumps(answer))
        return
    for rank, hit in enumerate(found.hits, start=1):
        typer.echo(f"{rank:>3}  {hit.score:.4f}  {hit.label}  {hit.path}")
    for rung in found.rungs:
        typer.echo(f"found by the ladder: {rung.kind}, {rung.cross:.1%} mAP", err=True)
    if found.left_out:
        words = "this device's model may not be compared with them"
        typer.echo(f"{found.left_out} gallery items were left out: {words}", err=True)
