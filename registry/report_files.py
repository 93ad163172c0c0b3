"""A report's files in a workspace: JSON for machines, a page and a summary for people."""

from compat.errors import CorruptError
from compat.files import read_bounded, write_atomic
from compat.flip_strips import MAX_STRIPS_BYTES, FlipStrips
from compat.report import Report
from compat.report_page import render_page
from registry.workspace import Workspace


def write_report(workspace: Workspace, report: Report, flips: FlipStrips | None = None) -> None:
    """Everything is rendered before anything is written.

    Args:
        flips: fresh pictures; when left out, kept ones that speak of an artifact of this report.
    """
    flips = flips or kept_flips(workspace, report)
    page = render_page(report, flips=flips)
    write_atomic(workspace.report_json, report.to_bytes())
    write_atomic(workspace.report_html, page.encode())
    if flips:
        write_atomic(workspace.flip_strips, flips.to_bytes())


def kept_flips(workspace: Workspace, report: Report) -> FlipStrips | None:
    """The pictures beside the report; None when there are none of its admitted artifacts."""
    if not workspace.flip_strips.exists():
        return None
    try:
        flips = FlipStrips.from_bytes(read_bounded(workspace.flip_strips, MAX_STRIPS_BYTES))
    except CorruptError:
        return None  # pictures explain; without them the report is whole
    return flips if flips.digest in {each.digest for each in report.admitted} else None
