"""The front of a search as a picture: reward against cost, every candidate and the best of each."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from server_models.config import SearchConfig
from server_models.evolution import Trial, front

_RC: dict[Any, Any] = {"svg.hashsalt": "kinspace", "svg.fonttype": "path", "font.size": 10}
_MEANING = {"R1": "M(q, q)", "R2": "M(q, g)", "R3": "M(q, q) x M(q, g)"}


def front_plot(trials: tuple[Trial, ...], search: SearchConfig) -> str:
    """SVG; equal trials give equal bytes."""
    scale, unit = (1e6, "M MACs") if search.cost == "macs" else (1.0, "ms on ONNX Runtime")
    allowed = [trial for trial in trials if trial.is_allowed]
    best = front(trials)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.scatter(
            [trial.fitness.cost / scale for trial in allowed],
            [trial.fitness.reward for trial in allowed],
            s=12, color="#9aa5b1", label=f"{len(allowed)} candidates",
        )  # fmt: skip
        axes.plot(
            [trial.fitness.cost / scale for trial in best],
            [trial.fitness.reward for trial in best],
            marker="o", color="#0b6e99", label="front",
        )  # fmt: skip
        axes.set_xlabel(f"cost of one image, {unit}")
        axes.set_ylabel(f"{search.reward} = {_MEANING[search.reward]}, mAP on held-out classes")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
