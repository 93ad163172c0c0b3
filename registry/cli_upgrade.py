"""``kinspace upgrade``: train a new cloud model that searches the old vectors, and prove it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from compat.errors import RefusedError
from registry.cli_errors import exits
from registry.cli_family import AsJson, FamilyFile, Out, open_family


@exits
def upgrade(
    family: FamilyFile,
    release: Annotated[
        Path,
        typer.Option(
            "--from",
            help="the old release: workspace, run folder, or its vectors (.parquet, .npy + .csv)",
            metavar="RELEASE",
        ),
    ],
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="an older release to measure against too, oldest first; repeatable",
            metavar="RELEASE",
        ),
    ] = None,
    unconstrained: Annotated[
        bool,
        typer.Option(
            "--unconstrained",
            help="train without constraint too, for the update gain: twice as long",
        ),
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Train the cloud model compatible with an old release; measure who may search what.

    Then train and export the family as any other, measure its files by upgrading again, verify and
    publish: that signs who may search what. Exit 5 when the new model does not search the old
    vectors better than the old one does.
    """
    config, workspace = open_family(family, out)
    from compat.upgrade_report import markdown_of
    from registry.demo_summary import wide_console
    from registry.upgrading import upgrade_family

    report = upgrade_family(
        config, workspace, release=release, also=also or [], unconstrained=unconstrained
    )
    old, new = report.releases[-2:]
    if as_json:
        typer.echo((workspace.upgrade / "matrix.json").read_text(), nl=False)
    else:
        wide_console().print(Markdown(markdown_of(report)))
        typer.echo(f"matrix: {workspace.upgrade / 'matrix.md'}")
    if not report.criterion:
        raise RefusedError(
            f"{new} does not search the vectors of {old} better than {old} itself: train longer, "
            "give the terms of [upgrade] more weight, or embed the gallery anew as a new generation"
        )
