"""``kinspace registry``: look after the store in which a registry lies."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from registry.cli_errors import exits
from registry.cli_publish import Json, Registry

registry_app = typer.Typer(no_args_is_help=True)


@registry_app.callback()
def _group() -> None:
    """Look after the store of a registry."""


@registry_app.command("sweep")
@exits
def sweep(
    registry: Registry,
    hours: Annotated[
        int, typer.Option(min=1, help="only what is older: a publisher may be at work")
    ] = 24,
    as_json: Json = False,
) -> None:
    """Remove what killed publishers left half-written; nothing that anybody can see."""
    from registry.storage.address import open_store

    swept = open_store(registry).sweep(datetime.now(UTC) - timedelta(hours=hours))
    if as_json:
        typer.echo(json.dumps({"swept": swept}))
        return
    for name in swept:
        typer.echo(f"swept  {name}")
    typer.echo(f"{len(swept)} unfinished writes were removed", err=True)
