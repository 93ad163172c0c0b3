"""What the report's pictures share: stand-in colours, one style, and SVG that a page can hold.

Matplotlib draws with stand-in colours, which become CSS variables that the page defines; ids get a
prefix, so that several pictures live in one page.
"""

import io
import re
from typing import Any

from compat.errors import MissingExtraError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter
except ModuleNotFoundError as error:
    raise MissingExtraError("drawing a report", "server", "matplotlib") from error

# Stand-ins for the page's CSS variables; no colour of matplotlib's own is used.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#070707"
SELF, CROSS, PARAGON = "#040404", "#050505", "#060606"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
    SELF: "var(--self)",
    CROSS: "var(--cross)",
    PARAGON: "var(--paragon)",
}
WIDTH_IN = 7.6
MAX_NAME_CHARS = 24  # of a member in a picture; the table has the whole name
RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kinspace",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": False,
}


def percent_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))


def short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[: MAX_NAME_CHARS - 1]}…"


def svg(figure: Figure, name: str, words: str) -> str:
    """The bare ``<svg>`` element: no prolog, no date, no name space of another host."""
    target = io.StringIO()
    nameless = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(target, format="svg", metadata=nameless, transparent=True)
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"<(metadata|style).*?</\1>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
