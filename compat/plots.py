"""The report's pictures as SVG: text stays text, colours follow the page's light or dark theme.

The same report gives the same bytes.
"""

import math
from collections.abc import Sequence
from typing import Any

from compat.drawing import (
    CROSS,
    INK,
    MUTED,
    PAPER,
    PARAGON,
    RC,
    SELF,
    WIDTH_IN,
    percent_axis,
    short,
    svg,
)
from compat.errors import MissingExtraError
from compat.report import ArtifactEvidence, Report
from compat.report_parts import Estimate
from compat.report_words import percent

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
except ModuleNotFoundError as error:
    raise MissingExtraError("drawing a report", "server", "matplotlib") from error

_MARKERS = {"onnxruntime": "o", "litert": "s"}


def frontier(report: Report) -> str:
    """Cross-test hit_rate@10 against MACs, with the paragon, the gate's bound and 95% intervals."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
        axes = figure.add_subplot()
        best = report.cloud.paragon.hit_rate_at_10
        macs = [report.cloud.macs, *(each.macs for each in report.artifacts)]
        axes.set_xscale("log")
        axes.set_xlim(min(macs) / 1.9, max(macs) * 1.9)
        _reference_lines(axes, best.value, report.policy.min_cross_to_paragon)
        _point(axes, report.cloud.macs, best, colour=PARAGON, marker="*", size=13, filled=True)
        _name(axes, report.cloud.macs, best, f"{short(report.cloud.name)} (cloud)")
        for member, artifacts in _by_member(report).items():
            for x, each in zip(_dodged(artifacts), artifacts, strict=True):
                _point(
                    axes,
                    x,
                    each.cross_test.hit_rate_at_10,
                    colour=CROSS,
                    marker=_MARKERS[each.runtime],
                    size=6.5,
                    filled=each.verdict.admitted,
                )
            lowest = min(
                (each.cross_test.hit_rate_at_10 for each in artifacts), key=lambda e: _low(e)
            )
            _name(axes, artifacts[0].macs, lowest, short(member))
        key = _frontier_key(report)
        figure.legend(handles=key, loc="outside upper right", ncols=len(key))
        percent_axis(axes, "y")
        axes.set_xlabel("multiply-accumulates for one image, in millions (log scale)")
        axes.set_ylabel("hit_rate@10 in the cloud's gallery")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _millions(x)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.12 * (high - low), min(high, 1.02))  # room for the lowest name
        words = f"hit_rate@10 against MACs for {len(report.artifacts)} artifacts"
        return svg(figure, "frontier", words)


def three_tests(report: Report) -> str:
    """Self-test, cross-test and paragon hit_rate@1 of each artifact, with 95% intervals."""
    with mpl.rc_context(RC):
        n = len(report.artifacts)
        figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.72 * n), layout="constrained")
        axes = figure.add_subplot()
        paragon = report.cloud.paragon.hit_rate_at_1
        for row, each in enumerate(report.artifacts):
            bars = (
                (-0.25, each.self_test.hit_rate_at_1, SELF, ""),
                (0.0, each.cross_test.hit_rate_at_1, CROSS, ""),
                (0.25, paragon, PARAGON, "////"),
            )
            for offset, estimate, colour, hatch in bars:
                _bar(axes, row + offset, estimate, colour=colour, hatch=hatch)
        axes.set_yticks(range(n), [_label(each) for each in report.artifacts])
        axes.set_ylim(n - 0.4, -0.6)
        axes.set_xlim(0, 1.12)
        axes.set_xlabel("hit_rate@1, with its 95% interval")
        percent_axis(axes, "x")
        axes.grid(visible=True, axis="x")
        axes.tick_params(axis="y", length=0)
        handles = [
            Patch(facecolor=SELF, label="self-test M(q, q)"),
            Patch(facecolor=CROSS, label="cross-test M(q, g)"),
            Patch(facecolor="none", edgecolor=PARAGON, hatch="////", label="paragon M(g, g)"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        return svg(figure, "tests", f"hit_rate@1 of {n} artifacts in three tests")


def costs(report: Report) -> str:
    """Size on disk and latency of each artifact; the thin line reaches to the 95th percentile."""
    with mpl.rc_context(RC):
        n = len(report.artifacts)
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.44 * n), layout="constrained")
        sizes, times = figure.subplots(1, 2, sharey=True)
        kibs = [each.size_bytes / 1024 for each in report.artifacts]
        timing = [report.timing.of(each.digest) for each in report.artifacts]
        p50s = [each.latency_ms_p50 if each else math.nan for each in timing]
        p95s = [each.latency_ms_p95 if each else math.nan for each in timing]
        for row in range(n):
            _cost_bar(sizes, row, kibs[row], kibs[row], digits=0, top=_largest(kibs))
            _cost_bar(times, row, p50s[row], p95s[row], digits=2, top=_largest(p95s))
        sizes.set_yticks(range(n), [_label(each) for each in report.artifacts])
        sizes.set_ylim(n - 0.4, -0.6)
        sizes.set_xlabel("size, KiB")
        times.set_xlabel("latency for one image, ms (p50, line to p95)")
        for axes in (sizes, times):
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=True, axis="x")
        return svg(figure, "costs", f"size and latency of {n} artifacts")


def _reference_lines(axes: Axes, paragon: float, share: float) -> None:
    if math.isfinite(paragon):
        axes.axhline(paragon, color=PARAGON, linewidth=1.4, linestyle=(0, (6, 3)))
        axes.axhline(paragon * share, color=MUTED, linewidth=1.2, linestyle=(0, (1.5, 2.5)))


def _point(
    axes: Axes, x: float, estimate: Estimate, *, colour: str, marker: str, size: float, filled: bool
) -> None:
    if not math.isfinite(estimate.value):
        return
    low, high = _ends(estimate)
    axes.plot([x, x], [low, high], color=colour, linewidth=1.4)
    face = colour if filled else PAPER
    axes.plot(
        [x], [estimate.value], marker=marker, markersize=size, color=colour, mfc=face, mew=1.6
    )


def _name(axes: Axes, x: float, estimate: Estimate, name: str) -> None:
    """Under the interval, so that nothing is covered."""
    if math.isfinite(estimate.value):
        axes.annotate(
            name,
            (x, _low(estimate)),
            xytext=(0, -6),
            textcoords="offset points",
            ha="center",
            va="top",
        )


def _frontier_key(report: Report) -> list[Line2D]:
    def line(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **style)

    used = {each.runtime for each in report.artifacts}
    handles = [
        line(name, color=CROSS, marker=marker, linestyle="none", markersize=6.5)
        for name, marker in _MARKERS.items()
        if name in used
    ]
    handles += [
        line("refused", color=CROSS, marker="o", mfc=PAPER, mew=1.6, linestyle="none"),
        line("paragon", color=PARAGON, linestyle=(0, (6, 3)), linewidth=1.4),
        line(
            f"gate, {percent(report.policy.min_cross_to_paragon)} of it",
            color=MUTED,
            linestyle=(0, (1.5, 2.5)),
            linewidth=1.2,
        ),
    ]
    return handles


def _bar(axes: Axes, y: float, estimate: Estimate, *, colour: str, hatch: str) -> None:
    if not math.isfinite(estimate.value):
        axes.text(0.01, y, "not measured", va="center", fontsize=8.5, color=MUTED)
        return
    face = "none" if hatch else colour
    axes.barh(y, estimate.value, 0.23, facecolor=face, edgecolor=colour, hatch=hatch, linewidth=1)
    low, high = _ends(estimate)
    axes.plot([low, high], [y, y], color=INK, linewidth=1.3, solid_capstyle="butt")
    axes.text(
        max(high, estimate.value) + 0.01, y, percent(estimate.value), va="center", fontsize=8.5
    )


def _cost_bar(axes: Axes, y: float, value: float, end: float, *, digits: int, top: float) -> None:
    axes.set_xlim(0, top * 1.25)
    if not math.isfinite(value):
        axes.text(top * 0.02, y, "not measured", va="center", fontsize=8.5, color=MUTED)
        return
    axes.barh(y, value, 0.55, facecolor=CROSS)
    last = max(end, value) if math.isfinite(end) else value
    axes.plot([value, last], [y, y], color=INK, linewidth=1.3, solid_capstyle="butt")
    axes.text(last + top * 0.02, y, f"{value:,.{digits}f}", va="center", fontsize=8.5)


def _millions(count: float) -> str:
    return f"{count / 1e6:,.0f}" if count >= 1e6 else f"{count / 1e6:g}"


def _by_member(report: Report) -> dict[str, list[ArtifactEvidence]]:
    members: dict[str, list[ArtifactEvidence]] = {}
    for each in report.artifacts:
        members.setdefault(each.member, []).append(each)
    return members


def _dodged(artifacts: Sequence[ArtifactEvidence]) -> list[float]:
    """Artifacts of one member cost the same: set their points a little apart."""
    middle = (len(artifacts) - 1) / 2
    return [each.macs * 1.045 ** (place - middle) for place, each in enumerate(artifacts)]


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, or the value itself where there is none."""
    low = estimate.low if math.isfinite(estimate.low) else estimate.value
    high = estimate.high if math.isfinite(estimate.high) else estimate.value
    return low, high


def _low(estimate: Estimate) -> float:
    return _ends(estimate)[0] if math.isfinite(estimate.value) else math.inf


def _largest(values: Sequence[float]) -> float:
    return max((value for value in values if math.isfinite(value) and value > 0), default=1.0)


def _label(artifact: ArtifactEvidence) -> str:
    return f"{short(artifact.member)} {artifact.runtime}/{artifact.precision}"
