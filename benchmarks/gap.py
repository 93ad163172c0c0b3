"""Where a member's gap to the paragon comes from: resolution, or what the network can hold.

    python -m benchmarks.gap

Objects-820, wild -> studio, hit_rate@10 on unseen objects, in one space. First the cloud model on
queries that were shrunk to a member's side: what is lost there, resolution alone takes. Then
trained members: small ones from nothing and from a starter, objects820-lite's with their long
schedules, and the cloud network itself at lower resolutions, begun with the cloud's weights
(recipes/gap-objects820.toml). Resumable; writes
benchmarks/results/gap.md, .json and .svg.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut
from benchmarks.headline import cloud_macs_of, member_of
from benchmarks.tables import RESULTS, Row, publish_table
from compat.embedding import embed_pixels
from compat.files import write_atomic
from compat.preprocess import Floats, Preprocess
from edge.embedder import RuntimeEmbedder
from edge.runtimes import open_runtime
from registry.stages import family_of, member_inputs, train_cloud
from registry.workspace import Workspace
from server_models.cloud_config import CloudConfig
from server_models.config import read_family
from server_models.export import count_macs, export_onnx_fp32
from server_models.family import Family
from server_models.gallery_model import TrainedGallery
from server_models.pixels import decode_all

RECIPES = Path(__file__).parent / "recipes"
HEADLINE_MEMBERS = ("edge-s", "edge-w")
SHRUNK_PX = (32, 48, 56, 64, 96)
SHRUNK = "cloud model, query shrunk"
TICKS_M = (2, 5, 10, 20, 50, 100, 200)  # M MACs
_RC: dict[Any, Any] = {"svg.hashsalt": "kinspace", "svg.fonttype": "path", "font.size": 9}


def shrunk_queries(held_out: HeldOut, side_px: int) -> Floats:
    """(Q, D): the cloud model on queries that went through ``side_px`` and were blown up again."""
    model, cloud = held_out.family.gallery_model, held_out.family.config.cloud
    assert isinstance(model, TrainedGallery)
    assert isinstance(cloud, CloudConfig)
    recipe = cloud.preprocess
    small = decode_all(held_out.queries, Preprocess(size_px=side_px), title=f"shrink to {side_px}")
    whole = (recipe.size_px, recipe.size_px)
    blown = [Image.fromarray(each).resize(whole, Image.Resampling.BICUBIC) for each in small.pixels]
    pixels = np.stack([np.asarray(each) for each in blown])
    runtime = open_runtime(export_onnx_fp32(model.net, recipe.size_px), "onnxruntime")
    return np.concatenate(list(embed_pixels(RuntimeEmbedder(runtime, recipe), pixels)))


@dataclass(frozen=True, eq=False)
class Queried:
    """The held-out queries by one model, and what one of them costs."""

    name: str
    size_px: int
    macs: int
    embeddings: Floats  # (Q, D)


def members(workspace: Workspace) -> Iterator[Queried]:
    """By every trained member."""
    headline, gap = (
        read_family(RECIPES / f"{name}.toml") for name in ("objects820-lite", "gap-objects820")
    )
    chosen = [member_of(headline, name, 0) for name in HEADLINE_MEMBERS]
    for config, member in [*((gap, each) for each in gap.members), *chosen]:
        family = family_of(config, workspace)
        if not family.folder(member.name).weights.exists():
            inputs = [member_inputs(family, member), config.seed]
            workspace.once(f"train-{member.name}", inputs, partial(family.train_member, member))
        side = member.preprocess.size_px
        queries = HeldOut(family, gallery_view="studio").member(member).queries
        yield Queried(member.name, side, count_macs(family.member(member), side), queries)


def rows_of(held_out: HeldOut, cloud_macs: int, queried: Iterable[Queried]) -> list[Row]:
    """One row a model: fractions."""
    gallery = held_out.cloud.gallery
    paragon = held_out.test(held_out.cloud.queries, gallery)
    rows = []
    for each in queried:
        tested = held_out.test(each.embeddings, gallery)
        found = held_out.mean(tested.hit_rate_at_10)
        gap = held_out.difference(tested.hit_rate_at_10, paragon.hit_rate_at_10)
        row: Row = {
            "query model": each.name,
            "px": each.size_px,
            "MACs": each.macs,
            "cheaper": round(cloud_macs / each.macs, 1),
            "cross hit_rate@10": found.value,
            "95%": f"{found.low:.4f} to {found.high:.4f}",
            "above the paragon": gap.value,
            "above 95%": f"{gap.low:+.4f} to {gap.high:+.4f}",
            "cross mAP": held_out.mean(tested.average_precision).value,
        }
        rows.append(row)
    return rows


def plot(rows: list[Row], paragon: float) -> str:
    """SVG: cross accuracy of members against their cost; equal rows give equal bytes."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            value, macs = 100 * float(str(row["cross hit_rate@10"])), float(str(row["MACs"])) / 1e6
            low, high = (100 * float(edge) for edge in str(row["95%"]).split(" to "))
            axes.errorbar([macs], [value], yerr=[[value - low], [high - value]], fmt="o",
                          markersize=5, color="#0b6e99", elinewidth=0.8)  # fmt: skip
            axes.annotate(f"{row['query model']}, {row['cheaper']}x", (macs, value),
                          xytext=(6, -9), textcoords="offset points", fontsize=7)  # fmt: skip
        axes.axhline(100 * paragon, color="#444444", linestyle="--", label="paragon M(g, g)")
        axes.set_xscale("log")
        axes.set_xticks(TICKS_M, labels=[f"{tick}" for tick in TICKS_M])
        axes.minorticks_off()
        axes.set_xlabel(
            "cost of one query, M MACs (log); behind each name: times cheaper than cloud"
        )
        axes.set_ylabel("cross hit_rate@10 on unseen objects, %; bars: 95%")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="lower right")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def main() -> None:
    config = read_family(RECIPES / "objects820-lite.toml")
    workspace = Workspace(cache_folder() / "runs" / config.family)
    family: Family = family_of(config, workspace)
    train_cloud(family, workspace)
    held_out = HeldOut(family, gallery_view="studio")
    cloud_macs = cloud_macs_of(family)
    trained = rows_of(held_out, cloud_macs, members(workspace))
    shrunk = (
        Queried(SHRUNK, side, cloud_macs, shrunk_queries(held_out, side)) for side in SHRUNK_PX
    )
    rows = rows_of(held_out, cloud_macs, shrunk) + trained
    paragon = held_out.test(held_out.cloud.queries, held_out.cloud.gallery)
    reached = held_out.mean(paragon.hit_rate_at_10).value
    notes = [
        f"{len(set(held_out.classes))} unseen objects, wild to studio, one seed; fractions. "
        f"Paragon: hit_rate@10 {reached:.4f}.",
        "Made by `python -m benchmarks.gap`. [The picture](gap.svg).",
    ]
    publish_table("gap", "Where the gap to the paragon comes from", rows, notes=notes)
    write_atomic(RESULTS / "gap.svg", plot(trained, reached).encode())


if __name__ == "__main__":
    main()
