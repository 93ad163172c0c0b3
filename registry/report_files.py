"""A workspace's report in all its forms: report.json, and the page and Markdown made from it."""

from pathlib import Path

from compat.errors import UsageError
from compat.files import read_bounded, write_atomic
from compat.report import MAX_REPORT_BYTES, Report
from compat.report_markdown import render_markdown
from compat.report_page import render_page
from registry.workspace import Workspace


def write_report(workspace: Workspace, report: Report) -> None:
    """Render first, then write: what cannot be rendered leaves the files as they were."""
    page, summary = render_page(report), render_markdown(report)
    write_atomic(workspace.report_json, report.to_bytes())
    write_atomic(workspace.report_html, page.encode())
    write_atomic(workspace.report_markdown, summary.encode())


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
