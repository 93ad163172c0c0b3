"""``kinspace report``: what is done with a report after it was made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compat.errors import RefusedError
from registry.cli_errors import exits

if TYPE_CHECKING:
    from compat.device_evidence import AttestationSection, DeviceClassEvidence

ReportPath = Annotated[Path, typer.Argument(help="report.json, or the workspace that holds it")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]

report_app = typer.Typer(help="Work with a family's report.", no_args_is_help=True)


@report_app.callback()
def _group() -> None:
    """Work with a family's report."""


@report_app.command("show")
@exits
def show(report: ReportPath, as_json: AsJson = False) -> None:
    """Print the verdict and the table of a report."""
    from compat.report_words import refusal_in_words
    from registry.demo_summary import summary_table, wide_console
    from registry.report_files import report_at

    found = report_at(report)
    if as_json:
        typer.echo(found.to_bytes().decode(), nl=False)
        return
    wide_console().print(summary_table(found))
    if found.refused:
        typer.echo(refusal_in_words(found))


@report_app.command("markdown")
@exits
def markdown(report: ReportPath) -> None:
    """Print a report as Markdown, for a pull request."""
    from compat.report_markdown import render_markdown
    from registry.report_files import report_at

    typer.echo(render_markdown(report_at(report)), nl=False)


@report_app.command("html")
@exits
def html(
    report: ReportPath, out: Annotated[Path, typer.Option(help="file to write the page to")]
) -> None:
    """Render a report's page anew; of a workspace, with the pictures beside the report."""
    from compat.files import write_atomic
    from compat.report_page import render_page
    from registry.report_files import kept_flips, report_at
    from registry.workspace import Workspace

    found = report_at(report)
    flips = kept_flips(Workspace(report), found) if report.is_dir() else None
    write_atomic(out, render_page(found, flips=flips).encode())
    typer.echo(f"report: {out}")


@report_app.command("diff")
@exits
def diff(before: ReportPath, after: ReportPath, as_json: AsJson = False) -> None:
    """Say what changed from one report to another, artifact by artifact."""
    from compat.report_diff import diff_reports
    from compat.report_diff_words import diff_words
    from registry.report_files import report_at

    found = diff_reports(report_at(before), report_at(after))
    typer.echo(found.model_dump_json() if as_json else diff_words(found))


@report_app.command("attestations")
@exits
def attestations(
    folder: Annotated[Path, typer.Argument(help="what devices attested, one file each")],
    workspace: Annotated[Path, typer.Option(help="where the report lies, e.g. runs/FAMILY")],
    trusted: Annotated[
        list[Path] | None,
        typer.Option(help="public key (PEM) that may sign; repeat it; default any key"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put what devices measured into the report; exit 5 when a device fails its golden images."""
    from edge.attest_key import read_public_key
    from edge.envelope import key_id_of, public_half
    from registry.attestations import attach_attestations
    from registry.workspace import Workspace

    keys = {key_id_of(public_half(read_public_key(path))) for path in trusted or ()}
    section = attach_attestations(Workspace(workspace), folder, trusted=keys or None)
    typer.echo(section.model_dump_json() if as_json else _words(section))
    if section.failures:
        raise RefusedError(f"{section.failures} devices fail their golden images")


def _words(section: "AttestationSection") -> str:
    lines = [line for row in section.classes for line in _row(row)]
    lines += [f"not counted: {each.source}: {each.reason}" for each in section.refused]
    return "\n".join([*lines, f"signatures: {section.trust}"])


def _row(row: "DeviceClassEvidence") -> list[str]:
    worst = "none" if row.cosine_worst is None else f"{row.cosine_worst:.4f}"
    return [
        f"{row.device_class}: {row.label} on {', '.join(row.backends)}",
        f"  {row.devices} devices, {row.attestations} attestations, worst golden cosine {worst} "
        f"({row.admission_cosine:.4f} needed)",
        f"  one thread p50 {row.latency_ms_p50:.2f} ms, p95 {row.latency_ms_p95:.2f} ms; "
        f"all cores p50 {row.all_cores_latency_ms_p50:.2f} ms, "
        f"p95 {row.all_cores_latency_ms_p95:.2f} ms; {row.resident_bytes_max / 2**20:.0f} MiB",
        *(f"  FAILS: device {each.key_id[:12]}: {each.reason}" for each in row.failures),
    ]
