"""``kinspace diagnose``: where in the chain a difference enters, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli_errors import exits
from registry.cli_family import AsJson, FamilyFile, Out

if TYPE_CHECKING:
    from rich.table import Table

    from compat.diagnosis_section import DiagnosisSection


@exits
def diagnose(
    family: FamilyFile,
    suspect: Annotated[
        Path | None,
        typer.Option(help=".npy of what an app computed for N evenly spread held-out queries"),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="pixels, tensor or embedding; default by shape and type")
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="the member that the app runs; default the first")
    ] = None,
    artifact: Annotated[
        str, typer.Option(help="the artifact that the app runs")
    ] = "onnxruntime/fp32",
    gallery: Annotated[
        Path | None, typer.Option(help="gallery folder: compare its rows with re-embedding")
    ] = None,
    out: Out = None,
    into_report: Annotated[
        bool, typer.Option("--into-report", help="also put what is found into the report")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the stage where a difference enters: of the artifacts, or of an app's own numbers."""
    from rich.console import Console

    from compat.dataset import read_dataset
    from registry.cli_family import open_family
    from registry.diagnosing import diagnose_family, diagnose_file

    config, workspace = open_family(family, out)
    names = tuple(each.name for each in config.members)
    dataset = read_dataset(config.data.path)
    with Console(stderr=True).status("diagnose"):
        if suspect is None:
            found = diagnose_family(
                workspace,
                dataset,
                space=config.space,
                cloud=config.cloud.name,
                members=names,
                gallery=gallery,
            )
        else:
            found = diagnose_file(
                workspace,
                dataset,
                space=config.space,
                member=member or names[0],
                artifact=artifact,
                suspect=suspect,
                stage=stage,
            )
    if into_report:
        from registry.report_files import attach_diagnosis

        attach_diagnosis(workspace, found)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for table in _tables(found):
        Console().print(table)
    typer.echo(f"first difference: {found.first or 'none'}")
    typer.echo(found.suggestion)


def _tables(found: "DiagnosisSection") -> "list[Table]":
    from rich.table import Column, Table

    names = (Column(each, overflow="fold") for each in ("stage", "against"))
    stages = Table(*names, "difference", "worst", "tolerance", "share", title="Stages")
    for each in found.stages:
        share = "" if each.share is None else f"{each.share:.0%}"
        numbers = (f"{value:.3g}" for value in (each.difference, each.worst, each.tolerance))
        style = "red" if each.exceeds else None
        stages.add_row(each.stage, each.against, *numbers, share, style=style)
    tables = [stages]
    if found.causes:
        causes = Table("cause", "difference", "left", "explains", title="Hypotheses tried")
        for cause in found.causes:
            left = (f"{cause.unexplained_before:.3g}", f"{cause.unexplained_after:.3g}")
            causes.add_row(cause.name, *left, "yes" if cause.explains else "no")
        tables.append(causes)
    for quantised in found.layers:
        title = f"{quantised.artifact}: worst layers. {quantised.suggestion}"
        layers = Table("layer", "SQNR dB", "own rounding dB", title=title)
        for layer in quantised.worst:
            own = "" if layer.local_sqnr_db is None else f"{layer.local_sqnr_db:.1f}"
            layers.add_row(layer.layer, f"{layer.sqnr_db:.1f}", own)
        tables.append(layers)
    return tables
