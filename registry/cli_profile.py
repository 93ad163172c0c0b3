"""``kinspace device profile``: what a choice knows of this device."""

from pathlib import Path
from typing import Annotated

import typer

from registry.cli_errors import exits


@exits
def profile(
    home: Annotated[Path, typer.Option(help="the device's folder")],
    fresh: Annotated[bool, typer.Option("--fresh", help="measure again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Show runtimes, memory and the time of the probe networks here; measured once and kept."""
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from compat.terminal import STDERR
    from edge.device import Device
    from edge.hardware import class_of

    with Progress(
        SpinnerColumn(), TextColumn("timing the probes"), console=STDERR, transient=True
    ) as bar:
        bar.add_task("timing")
        found = Device(home).profile(is_fresh=fresh)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    typer.echo(f"device    {class_of(found.hardware)}")
    typer.echo(f"runtimes  {', '.join(found.runtimes) or 'none'}")
    for each in found.probes:
        name = f"{each.runtime} {each.runtime_version} {each.precision}"
        typer.echo(f"probe     {name:<26} {each.latency_ms_p50:8.3f} ms")
