"""The headline: how near a phone model comes to the cloud model that it is 80 times cheaper than.

    python -m benchmarks.headline objects820      # wild -> studio, 328 unseen objects
    python -m benchmarks.headline emoji           # one house -> another, 738 unseen meanings
    python -m benchmarks.headline objects820-lite --member edge-m --seeds 1

Trains the first member of recipes/SET.toml once per seed against the same frozen cloud model
(resumable), exports LiteRT int8, and writes benchmarks/results/headline.json (objects820) or
headline-SET.json (another member: its name behind): hit_rate@10 of M(query, gallery) of the
paragon (cloud, cloud) and of the cross-test (edge, cloud) on unseen classes, their paired
difference with the 95% interval over classes. The sets that end in -lite are the same images with
a gallery model from ImageNet.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut
from benchmarks.tables import RESULTS
from compat.embedding import embed_pixels
from compat.errors import ConfigError
from compat.files import write_atomic
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.wire import canonical_json
from edge.embedder import RuntimeEmbedder
from edge.runtimes import open_runtime
from registry.stages import calibration_images, family_of, member_inputs, train_cloud
from registry.workspace import Workspace
from server_models.config import FamilyConfig, read_family
from server_models.export import count_macs, export_tflite_fp32, export_tflite_int8
from server_models.family import Family
from server_models.gallery_model import TrainedGallery
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all

RECIPES = Path(__file__).parent / "recipes"
METRIC = "hit_rate@10"


@dataclass(frozen=True)
class Source:
    """A set with a recipe of its name."""

    what: str
    gallery_view: str  # what a gallery view begins with
    file: str  # of the results, without its end


SETS = {
    "objects820": Source(
        "objects820 wild -> studio, 328 unseen objects (renders)", "studio", "headline"
    ),
    "objects820-catalogue": Source(
        "objects820 wild -> studio, 335 objects of unseen catalogues (renders)",
        "studio",
        "headline-objects820-catalogue",
    ),
    "objects820-lite": Source(
        "objects820 wild -> studio, 328 unseen objects (renders), a gallery model from ImageNet",
        "studio",
        "headline-objects820-lite",
    ),
    "emoji": Source("emoji, one house -> another, 738 unseen meanings", "", "headline-emoji"),
    "emoji-lite": Source(
        "emoji, one house -> another, 738 unseen meanings, a gallery model from ImageNet",
        "",
        "headline-emoji-lite",
    ),
}


def member_of(config: FamilyConfig, name: str, seed: int) -> tuple[FamilyConfig, MemberConfig]:
    """The family as ``seed`` trains it, and the member under a name of its own."""
    chosen = next(member for member in config.members if member.name == name)
    return (
        config.model_copy(update={"seed": seed}),
        chosen.model_copy(update={"name": f"{name}-seed{seed}"}),
    )


def int8_queries(family: Family, member: MemberConfig, held_out: HeldOut) -> Floats:
    """(Q, D): the held-out queries by the LiteRT int8 file, as a device runs it."""
    calibration = calibration_images(family, member)
    blob = export_tflite_int8(
        export_tflite_fp32(family.member(member), member.preprocess.size_px), calibration
    )
    write_atomic(family.folder(member.name).path / "int8.tflite", blob)
    embedder = RuntimeEmbedder(open_runtime(blob, "litert", threads=1), member.preprocess)
    pixels = decode_all(held_out.queries, member.preprocess, title="decode queries").pixels
    return np.concatenate(list(embed_pixels(embedder, pixels)))


def measured(family: Family, member: MemberConfig, gallery_view: str) -> dict[str, object]:
    """One row of the headline: accuracies as fractions."""
    held_out = HeldOut(family, gallery_view=gallery_view)
    gallery = held_out.cloud.gallery
    paragon = held_out.test(held_out.cloud.queries, gallery)
    edge = held_out.member(member)
    cross = held_out.test(edge.queries, gallery)
    own = held_out.test(edge.queries, edge.gallery)
    int8 = held_out.test(int8_queries(family, member, held_out), gallery)
    gap = held_out.difference(cross.hit_rate_at_10, paragon.hit_rate_at_10)
    rule = held_out.difference(cross.average_precision, own.average_precision)
    lost = held_out.difference(int8.hit_rate_at_10, cross.hit_rate_at_10)
    cloud_macs = cloud_macs_of(family)
    edge_macs = count_macs(family.member(member), member.preprocess.size_px)
    return {
        "seed": family.config.seed,
        "cloud_macs": cloud_macs,
        "edge_macs": edge_macs,
        "ratio": round(cloud_macs / edge_macs, 1),
        "paragon": _mean(paragon.hit_rate_at_10),
        "cross": _mean(cross.hit_rate_at_10),
        "difference": round(gap.value, 4),
        "ci95": _interval(gap),
        "cross_int8": _mean(int8.hit_rate_at_10),
        "int8_difference": round(lost.value, 4),
        "int8_ci95": _interval(lost),
        "self": _mean(own.hit_rate_at_10),
        "map": {
            "paragon": _mean(paragon.average_precision),
            "cross": _mean(cross.average_precision),
            "self": _mean(own.average_precision),
            "cross_minus_self": round(rule.value, 4),  # the gate wants it above 0
            "cross_minus_self_ci95": _interval(rule),
        },
        **({"icon": icon_gallery(family, member)} if gallery_view else {}),
    }


def icon_gallery(family: Family, member: MemberConfig) -> dict[str, float]:
    """The same queries against one catalogue icon an object instead of its studio views."""
    held_out = HeldOut(family, gallery_view="icon")
    gallery = held_out.cloud.gallery
    paragon = held_out.test(held_out.cloud.queries, gallery)
    cross = held_out.test(held_out.member(member).queries, gallery)
    return {"paragon": _mean(paragon.hit_rate_at_10), "cross": _mean(cross.hit_rate_at_10)}


def cloud_macs_of(family: Family) -> int:
    """Multiply-accumulates of the gallery model that was trained here."""
    model = family.gallery_model
    if not isinstance(model, TrainedGallery):
        raise ConfigError(f"{family.config.family} has no gallery model to train")
    return count_macs(model.net, model.preprocess.size_px)


def _mean(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    return round(float(np.nanmean(values)), 4)


def _interval(estimate: Estimate) -> list[float]:
    return [round(estimate.low, 4), round(estimate.high, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--member", help="by its name in the recipe; the first when left out")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    source, config = SETS[given.set], read_family(RECIPES / f"{given.set}.toml")
    names = [member.name for member in config.members]
    first, name = names[0], given.member or names[0]
    if name not in names:
        parser.error(f"no member is named {name!r} in {given.set}.toml: give one of {names}")
    workspace = Workspace(cache_folder() / "runs" / config.family)
    train_cloud(family_of(config, workspace), workspace)
    rows = []
    suffix = "" if name == first else f"-{name}"
    for seed in range(given.seeds):
        seeded, member = member_of(config, name, seed)
        family = family_of(seeded, workspace)
        inputs = member_inputs(family_of(config, workspace), member)
        workspace.once(f"train-{member.name}", [inputs, seed], partial(family.train_member, member))
        rows.append(measured(family, member, source.gallery_view))
        found = {"set": source.what, "metric": METRIC, "member": name, "seeds": rows}
        write_atomic(RESULTS / f"{source.file}{suffix}.json", canonical_json(found))
        sys.stdout.write(f"{rows[-1]}\n")


if __name__ == "__main__":
    main()
