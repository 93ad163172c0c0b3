"""A workspace's report in all its forms: report.json, and the page and Markdown made from it."""

from pathlib import Path

from compat.diagnosis_section import DiagnosisSection
from compat.errors import CorruptError, UsageError
from compat.files import read_bounded, write_atomic
from compat.flip_strips import MAX_STRIPS_BYTES, FlipStrips
from compat.report import MAX_REPORT_BYTES, Report
from compat.report_markdown import render_markdown
from compat.report_page import render_page
from registry.workspace import Workspace


def write_report(workspace: Workspace, report: Report, flips: FlipStrips | None = None) -> None:
    """Render first, then write: what cannot be rendered leaves the files as they were.

    Args:
        flips: fresh pictures; when left out, those beside the report if they are of this report.
    """
    flips = flips or kept_flips(workspace, report)
    page, summary = render_page(report, flips=flips), render_markdown(report)
    write_atomic(workspace.report_json, report.to_bytes())
    write_atomic(workspace.report_html, page.encode())
    write_atomic(workspace.report_markdown, summary.encode())
    if flips:
        write_atomic(workspace.flip_strips, flips.to_bytes())


def attach_diagnosis(workspace: Workspace, section: DiagnosisSection) -> None:
    """Put what a diagnosis found into the workspace's report, in place of any before.

    Raises:
        UsageError: there is no report that this version reads. Remedy: ``kinspace verify``.
    """
    report = report_at(workspace.report_json)
    write_report(workspace, report.model_copy(update={"diagnosis": section}))


def kept_flips(workspace: Workspace, report: Report) -> FlipStrips | None:
    """The pictures beside the report, if they show an admitted artifact of it on its data set."""
    if not workspace.flip_strips.exists():
        return None
    try:
        flips = FlipStrips.from_bytes(read_bounded(workspace.flip_strips, MAX_STRIPS_BYTES))
    except CorruptError:
        return None  # pictures explain; without them the report is whole
    return flips if flips.shows(report) else None


def report_at(path: Path) -> Report:
    """The report in a file, or in a workspace.

    Raises:
        UsageError: there is none, or the bytes are no report of a format that we know.
    """
    file = Workspace(path).report_json if path.is_dir() else path
    blob = read_bounded(file, MAX_REPORT_BYTES)
    try:
        return Report.from_bytes(blob)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
