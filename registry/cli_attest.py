"""``kinspace device attest``: what the active release does on this device, signed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compat.errors import AdmissionError, UsageError
from registry.cli_errors import exits

if TYPE_CHECKING:
    from compat.attestation import Attestation


@exits
def attest(
    home: Annotated[Path, typer.Option(help="the device's folder")],
    out: Annotated[
        Path | None, typer.Option(help="write the envelope here; default HOME/attestation.json")
    ] = None,
    device_class: Annotated[
        str | None, typer.Option(help="default made of system, processor, cores and memory")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="URI of a key that your fleet knows; needs --public-key")
    ] = None,
    public_key: Annotated[Path | None, typer.Option(help="its public half (PEM)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Run golden images and a timing here, sign the numbers; exit 5 when the device fails."""
    from rich.console import Console

    from compat.files import write_atomic
    from edge.attest import attest as run
    from edge.attest_key import read_public_key

    if (key is None) != (public_key is None):
        raise UsageError("--key and --public-key go together")
    named = (key, read_public_key(public_key)) if key and public_key else None
    with Console(stderr=True).status("attest") as status:
        found, envelope, failure = run(
            home, device_class=device_class, key=named, progress=status.update
        )
    out = out or home / "attestation.json"
    write_atomic(out, envelope)
    typer.echo(envelope.decode() if as_json else f"{_words(found)}\nsigned: {out}\n", nl=False)
    if failure:
        raise AdmissionError(f"this device fails its golden images: {failure}")


def _words(found: "Attestation") -> str:
    golden, cosine = found.golden, found.golden.cosine_min
    lines = [
        f"{found.device_class}: {found.member} {found.runtime}/{found.precision}, "
        f"{found.runtime} {found.runtime_version} {found.provider}",
        f"golden: {golden.images} images, {golden.refused} refused, worst cosine "
        f"{'none' if cosine is None else f'{cosine:.4f}'}, pixels within "
        f"{golden.pixels_max_error} of 255",
    ]
    lines += [
        f"threads {timing.threads}: p50 {timing.latency_ms_p50:.2f} ms, p95 "
        f"{timing.latency_ms_p95:.2f} ms over {timing.runs} runs, "
        f"{timing.resident_bytes / 2**20:.0f} MiB"
        for timing in (found.one_thread, found.all_cores)
    ]
    return "\n".join(lines)
