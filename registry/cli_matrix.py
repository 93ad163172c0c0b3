"""``kinspace matrix``: which artifact may query which gallery, by the signed evidence."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compat.errors import UsageError
from compat.matrix import CompatibilityMatrix, Entry
from registry.cli_errors import exits

matrix_app = typer.Typer(help="Look at a family's compatibility matrix.", no_args_is_help=True)


@matrix_app.command("show")
@exits
def show(
    family: Annotated[str, typer.Argument(help="family of the registry")],
    registry: Annotated[str, typer.Option(help="folder or s3://bucket/prefix of the registry")],
    root: Annotated[
        Path | None, typer.Option(help="trusted root.json; default the registry's first root")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Print every pair that was measured: artifact, gallery, accuracy, verdict."""
    from registry.local_release import LocalRelease
    from registry.storage.address import open_store

    with TemporaryDirectory(prefix="kinspace-") as scratch:
        matrix = LocalRelease(open_store(registry), family, Path(scratch), root=root).matrix
    if matrix is None:
        raise UsageError(
            f"{family} in {registry} has no matrix yet: its next kinspace publish signs one"
        )
    if as_json:
        typer.echo(matrix.to_bytes().decode(), nl=False)
    else:
        _print(matrix)


def _print(matrix: CompatibilityMatrix) -> None:
    """One block a gallery, the oldest first: M(q, g), and what it has to exceed."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=96, highlight=False)
    for generation in dict.fromkeys(each.gallery_generation for each in matrix.entries):
        entries = [each for each in matrix.entries if each.gallery_generation == generation]
        first = entries[0]
        table = Table(
            title=f"gallery {generation}: rows of {first.gallery_model} "
            f"{first.gallery_digest[:12]}, space {first.gallery_space}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for column in ("member", "runs on", "artifact"):
            table.add_column(column, no_wrap=True)
        for column in ("mAP", "must exceed", "score"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for entry in entries:
            table.add_row(*_row(entry))
        console.print(table)


def _row(entry: Entry) -> tuple[str, ...]:
    calibrated = (entry.score_scale, entry.score_shift) != (1.0, 0.0)
    return (
        entry.member,
        f"{entry.runtime} {entry.precision}",
        entry.artifact_digest[:12],
        f"{entry.cross:.1%}",
        f"{entry.criterion:.1%}" if entry.criterion is not None else "-",
        f"{entry.score_scale:.3g} s {entry.score_shift:+.3g}" if calibrated else "as is",
        "admitted" if entry.admitted else "refused",
    )
