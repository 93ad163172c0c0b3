"""``kinspace device``: follow a family, embed photos with what was admitted here."""

import io
import json
import math
from pathlib import Path
from typing import Annotated

import typer

from compat.manifest import Runtime
from registry.cli_errors import exits

device_app = typer.Typer(help="Run a family's query model on this device.", no_args_is_help=True)

Home = Annotated[Path, typer.Option(help="the device's folder")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


@device_app.command("init")
@exits
def init(
    home: Home,
    registry: Annotated[str, typer.Option(help="http(s) URL or folder of the registry")],
    root: Annotated[Path, typer.Option(help="root.json, from the publisher, not the registry")],
    family: Annotated[str, typer.Option(help="what to follow")],
    member: Annotated[
        str | None, typer.Option(help="query model; default the best verified one that fits")
    ] = None,
    runtime: Annotated[Runtime | None, typer.Option(help="default whichever is installed")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="median time of one embedding on this device")
    ] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(help="size of the model's file, in 10^6 bytes")
    ] = None,
    channel: Annotated[str, typer.Option(help="what it follows of the family")] = "stable",
    as_json: Json = False,
) -> None:
    """Bind a home folder to a registry's family; safe to repeat, root and family stay.

    The limits decide which model the next update takes: the most accurate one within them.
    """
    from compat.errors import UsageError
    from compat.files import read_bounded
    from edge.budget import Budget
    from edge.device import Device
    from edge.trusted import MAX_ROOT_BYTES

    for name, limit in (("--max-latency-ms", max_latency_ms), ("--max-size-mb", max_size_mb)):
        if limit is not None and not 0 < limit < math.inf:
            raise UsageError(f"{name} is {limit:g}: give a number above 0, or leave it out")
    budget = Budget(
        max_latency_ms=max_latency_ms,
        max_size_bytes=math.ceil(max_size_mb * 1e6) if max_size_mb is not None else None,
    )
    trusted = read_bounded(root, MAX_ROOT_BYTES)
    config = Device(home).init(
        registry,
        trusted,
        family,
        member=member,
        runtime=runtime,
        budget=budget,
        channel=channel,
    )
    words = f"{home} follows {config.family} of {config.registry}: kinspace device update"
    typer.echo(config.model_dump_json() if as_json else words)


@device_app.command("update")
@exits
def update(home: Home, as_json: Json = False) -> None:
    """Run what the channel names, if it is proven and works here; else keep what runs."""
    from edge.device import Device

    outcome = Device(home).update()
    if as_json:
        typer.echo(outcome.model_dump_json())
        return
    for reason in outcome.refused:
        typer.echo(f"does not run here: {reason}", err=True)
    took = f", {outcome.latency_ms:.2f} ms" if outcome.latency_ms is not None else ""
    typer.echo(
        f"{'now runs' if outcome.changed else 'runs'} release {outcome.version}: {outcome.member} "
        f"{outcome.artifact}, golden cosine {outcome.check.cosine_min:.4f} or more{took}"
    )
    if outcome.fetched_as:
        kib, golden_kib = outcome.fetched_bytes / 1024, outcome.golden_bytes / 1024
        typer.echo(
            f"fetched {kib:.0f} KiB ({outcome.fetched_as}), {golden_kib:.0f} KiB of golden set"
        )


@device_app.command("status")
@exits
def status(home: Home, as_json: Json = False) -> None:
    """Show what runs, what ran before and how the last update ended."""
    from edge.device import Device

    found = Device(home).status()
    if as_json:
        typer.echo(found.model_dump_json())
        return
    config = found.config
    typer.echo(f"follows   {config.family} ({config.channel}) of {config.registry}")
    for name, slot in (("runs", found.current), ("before", found.previous)):
        words = f"release {slot.version}: {slot.member} {slot.artifact.label}" if slot else "-"
        typer.echo(f"{name:<9} {words}")
    typer.echo(f"budget    {found.config.budget}")
    if found.current:
        check = found.current.check
        typer.echo(
            f"admitted  golden cosine {check.cosine_min:.4f} or more on {check.images} images, "
            f"pixels within {check.pixels_max_error} of 255"
        )
        if found.current.latency_ms is not None:
            typer.echo(
                f"latency   {found.current.latency_ms:.2f} ms, measured when it was admitted"
            )
    if last := found.last_update:
        typer.echo(f"updated   {last.at:%Y-%m-%d %H:%M:%S} UTC: {last.error or 'no error'}")


@device_app.command("report")
@exits
def report(
    home: Home,
    out: Annotated[
        Path | None, typer.Option(help="write it here; default HOME/update_report.json")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign how the last update ended, for whoever watches the rollout; nothing is sent."""
    from compat.files import write_atomic
    from edge.report import report_update

    envelope, out = report_update(home), out or home / "update_report.json"
    write_atomic(out, envelope)
    typer.echo(envelope.decode() if as_json else f"signed: {out}\n", nl=False)


@device_app.command("embed")
@exits
def embed(
    photos: Annotated[list[Path], typer.Argument(help="image files")],
    home: Home,
    out: Annotated[Path | None, typer.Option(help="write (N, D) float32 to this .npy")] = None,
    as_json: Json = False,
) -> None:
    """Embed photos with the active release: to a .npy file, or as JSON."""
    import numpy as np
    from rich.progress import Progress

    from compat.errors import UsageError
    from compat.files import write_atomic
    from compat.images import read_image
    from compat.terminal import STDERR
    from edge.device import Device

    if out is None and not as_json:
        raise UsageError("say where the embeddings go: --out FILE.npy or --json")
    device = Device(home)
    active, embedder = device.active(), device.embedder()
    with Progress(console=STDERR, transient=True) as bar:  # closed before an error is printed
        shown = bar.track(photos, description="embedding")
        tensors = (embedder.preprocess.tensor(read_image(photo), str(photo)) for photo in shown)
        rows = np.concatenate([embedder.embed(tensor[None]) for tensor in tensors])  # (N, D)
    if out is not None:
        file = io.BytesIO()
        np.save(file, rows)
        write_atomic(out, file.getvalue())
    if as_json:
        answer = {
            "space": active.manifest.space.id,
            "release": active.manifest.version,
            "member": active.member.name,
            "artifact": active.artifact.digest,
            "embeddings": [
                {"photo": str(photo), "embedding": row}
                for photo, row in zip(photos, rows.tolist(), strict=True)
            ],
        }
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{len(rows)} embeddings of space {active.manifest.space.id} in {out}")
