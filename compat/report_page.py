"""The compatibility report as one HTML file: no script, no request to anybody, light and dark.

Everything that came from outside is escaped by the template; only our own SVG goes in as it is.
The same report gives the same bytes.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compat import plots, plots_evidence, report_tables, report_words
from compat.errors import MissingExtraError, UsageError
from compat.flip_strips import FlipStrips
from compat.report import ArtifactEvidence, CloudEvidence, Report, UnmeasuredArtifact

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ModuleNotFoundError as error:
    raise MissingExtraError("rendering a report", "server", "jinja2") from error

Costed = CloudEvidence | ArtifactEvidence | UnmeasuredArtifact
_FILTERS = (
    report_words.percent,
    report_words.interval,
    report_words.points,
    report_words.points_interval,
    report_words.plain,
    report_words.cosine,
    report_words.share,
    report_words.significance,
    report_words.heat,
    report_words.short_number,
    report_words.kib,
    report_words.mib,
    report_words.mega,
)


@dataclass(frozen=True)
class Strip:
    """A contact sheet to show in the page."""

    title: str
    png: bytes

    @property
    def source(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def render_page(
    report: Report, *, strips: Sequence[Strip] | None = None, flips: FlipStrips | None = None
) -> str:
    """The whole page.

    Args:
        report: what was measured; NaN and what is missing is shown as not measured.
        strips: contact sheets (`compat.contact_sheet`), shown in this order.
        flips: what an admitted artifact no longer finds, as pictures.

    Raises:
        UsageError: a model costs nothing, so no ratio can be shown. Remedy: count its MACs.
    """
    models: tuple[Costed, ...] = (report.cloud, *report.artifacts, *report.unmeasured)
    for each in models:
        if each.macs <= 0:
            raise UsageError(f"{_name(each)} is said to cost {each.macs} MACs: count them again")
    page: str = (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            headline=report_words.headline(report),
            cost_words=report_words.cost_words,
            to_paragon=report_words.to_paragon,
            drawings=_drawings(report),
            strips=tuple(strips or ()),
            flips=flips,
            tables=report_tables,
            worst_update_parts=report_words.worst_update_parts,
        )
    )
    return page


def _name(model: Costed) -> str:
    if isinstance(model, CloudEvidence):
        return model.name
    return f"{model.member} {model.runtime}/{model.precision}"


def _drawings(report: Report) -> Mapping[str, Markup]:
    """SVG by name; none when nothing could be measured."""
    if not report.artifacts:
        return {}
    drawn = {
        "frontier": plots.frontier(report),
        "three_tests": plots.three_tests(report),
        "costs": plots.costs(report),
        "scores": plots_evidence.score_panels(report),
        "curves": plots_evidence.curves(report.stress) if report.stress else None,
    }
    return {name: Markup(svg) for name, svg in drawn.items() if svg}  # our SVG; its text is escaped


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("compat"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {each.__name__: each for each in _FILTERS}
    environment.filters.update(filters)
    return environment
