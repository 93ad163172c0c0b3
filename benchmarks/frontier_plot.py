"""The frontier as a picture: cross mAP against MACs, latency and bytes, the paragon as a line."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables import Row

_RC: dict[Any, Any] = {"svg.hashsalt": "kinspace", "svg.fonttype": "path", "font.size": 9}
_COLOURS = {"searched": "#0b6e99", "hand-made": "#c2571a"}
_FILLED = {"fp32": True, "int8": False}
# column, its unit's size, its axis
_COSTS = (
    ("MACs", 1e6, "cost of one image, M MACs"),
    ("latency", 1.0, "latency, ratio to kin-s fp32 (ONNX Runtime, one thread)"),
    ("bytes", 1024.0, "file, KiB"),
)


def frontier_plot(rows: Sequence[Row], paragon: float) -> str:
    """SVG of the rows of `benchmarks.frontier`; equal rows give equal bytes."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(12.5, 4.4), layout="constrained")
        panels = figure.subplots(1, len(_COSTS), sharey=True)
        for axes, (column, unit, label) in zip(panels, _COSTS, strict=True):
            for row in rows:
                _point(axes, row, float(str(row[column])) / unit, is_named=axes is panels[0])
            axes.axhline(100 * paragon, color="#444444", linestyle="--", label="paragon M(g, g)")
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.grid(visible=True, alpha=0.3)
        panels[0].set_ylabel("cross mAP M(q, g) on unseen classes, % (log); bars: 95%")
        handles, labels = panels[0].get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        figure.legend(
            shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), fontsize=8
        )
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _point(axes: Axes, row: Row, cost: float, *, is_named: bool) -> None:
    value = 100 * float(str(row["cross mAP"]))
    low, high = (100 * float(edge) for edge in str(row["mAP 95%"]).split(" to "))
    origin, precision = str(row["made"]), str(row["file"])
    colour = _COLOURS[origin]
    axes.errorbar(
        [cost], [value], yerr=[[value - low], [high - value]], fmt="o", markersize=5,
        color=colour, markerfacecolor=colour if _FILLED[precision] else "white",
        elinewidth=0.8, alpha=0.9, label=f"{origin}, {precision}",
    )  # fmt: skip
    if is_named and precision == "fp32":
        axes.annotate(
            str(row["network"]),
            (cost, value),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",  # the dearest stand at the right edge
            rotation=-35,
            fontsize=6,
        )
