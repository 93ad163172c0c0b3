"""The pictures of what lies under the headline: scores with their threshold, and bent curves.

The same report gives the same bytes.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from compat.drawing import CROSS, INK, MUTED, PARAGON, RC, SELF, WIDTH_IN, percent_axis, short, svg
from compat.errors import MissingExtraError
from compat.report import Report
from compat.score_histogram import BINS, ScoreHistogram
from compat.stress import CurvePoint, StressSection

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
except ModuleNotFoundError as error:
    raise MissingExtraError("drawing a report", "server", "matplotlib") from error

COLUMNS = 2
MAX_PANELS = 8  # of scores; the others are in the JSON
CURVE_COLUMNS = 4
_STYLES = ((PARAGON, (0, (6, 3)), "*"), (CROSS, "-", "o"), (SELF, "-", "s"), (MUTED, ":", "^"))


def score_panels(report: Report) -> str | None:
    """Genuine and impostor scores of the paragon and each artifact; None when none were counted."""
    panels = [(f"{report.cloud.name} (paragon)", report.cloud.scores, _paragon_threshold(report))]
    for each in report.artifacts:
        threshold = each.acceptance.threshold if each.acceptance else None
        panels.append(
            (f"{short(each.member)} {each.runtime}/{each.precision}", each.scores, threshold)
        )
    drawn = [(title, found, cut) for title, found, cut in panels if found is not None][:MAX_PANELS]
    if not drawn:
        return None
    rows = -(-len(drawn) // COLUMNS)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 1.5 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, sharex=True, squeeze=False)
        for axes, panel in zip_longest(grid.ravel(), drawn):
            if panel is None:
                axes.set_axis_off()
            else:
                _score_panel(axes, *panel)
        shown = [found for _, found, _ in drawn]
        grid[0, 0].set_xlim(*_range(shown))
        for axes in grid[-1]:
            axes.set_xlabel("cosine of query and gallery image")
            axes.tick_params(labelbottom=True)
        figure.supylabel("share of the pairs of a kind", fontsize=9.5)
        handles = [
            Patch(facecolor=SELF, edgecolor=SELF, alpha=0.7, label="impostor: another label"),
            Patch(facecolor="none", edgecolor=CROSS, linewidth=1.6, label="genuine: same label"),
            Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="threshold"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        return svg(figure, "scores", f"score distributions of {len(drawn)} query models")


def curves(section: StressSection) -> str:
    """hit_rate@10 against severity, one panel a corruption, one line a model."""
    corruptions = sorted({each.corruption for each in section.curves if each.level})
    models = list(dict.fromkeys(each.model for each in section.curves))
    rows = max(1, -(-len(corruptions) // CURVE_COLUMNS))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(2 * WIDTH_IN, 0.7 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, CURVE_COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, corruption in zip_longest(grid.ravel(), corruptions):
            if corruption is None:
                axes.set_axis_off()
                continue
            for place, model in enumerate(models):
                _curve(axes, place, _along(section.curves, model, corruption))
            axes.set_title(corruption.replace("_", " "), fontsize=10, loc="left")
            axes.grid(visible=True)
            axes.set_xlabel("severity, 0 = clean")
            axes.tick_params(labelbottom=True)
        for row in grid:
            row[0].set_ylabel("hit_rate@10")
        percent_axis(grid[0, 0], "y")
        grid[0, 0].set_ylim(0, 1.02)
        handles = [
            Line2D([], [], color=colour, linestyle=dash, marker=marker, markersize=5, label=model)
            for model, (colour, dash, marker) in zip(models, _styles(len(models)), strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        return svg(figure, "curves", f"hit_rate@10 under {len(corruptions)} corruptions")


def _score_panel(axes: Axes, title: str, found: ScoreHistogram, threshold: float | None) -> None:
    edges = [2 * place / BINS - 1 for place in range(BINS + 1)]
    axes.stairs(_shares(found.impostor), edges, fill=True, color=SELF, alpha=0.7)
    axes.stairs(_shares(found.genuine), edges, color=CROSS, linewidth=1.6)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.set_title(title, fontsize=9.5, loc="left")
    percent_axis(axes, "y")


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _range(shown: Sequence[ScoreHistogram]) -> tuple[float, float]:
    """The cosines where there is anything to see, a bin of air on both sides."""
    used = [
        place
        for place in range(BINS)
        if any(found.genuine[place] or found.impostor[place] for found in shown)
    ] or [0, BINS - 1]
    return 2 * (min(used) - 1) / BINS - 1, 2 * (max(used) + 2) / BINS - 1


def _paragon_threshold(report: Report) -> float | None:
    chosen = [each.acceptance for each in report.artifacts if each.acceptance]
    return chosen[0].threshold if chosen else None


def _along(points: Sequence[CurvePoint], model: str, corruption: str) -> list[CurvePoint]:
    own = [each for each in points if each.model == model]
    kept = [each for each in own if each.level == 0 or each.corruption == corruption]
    return sorted(kept, key=lambda each: each.level)


def _curve(axes: Axes, place: int, points: Sequence[CurvePoint]) -> None:
    colour, dash, marker = _styles(place + 1)[place]
    levels = [each.level for each in points]
    found = [each.hit_rate_at_10 for each in points]
    axes.fill_between(
        levels,
        [e.low for e in found],
        [e.high for e in found],
        color=colour,
        alpha=0.14,
        linewidth=0,
    )
    values = [each.value for each in found]
    axes.plot(levels, values, color=colour, linestyle=dash, marker=marker, markersize=4.5)


def _styles(count: int) -> list[tuple[str, Any, str]]:
    return [_STYLES[place % len(_STYLES)] for place in range(count)]
