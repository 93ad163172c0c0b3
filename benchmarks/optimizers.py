"""Muon against AdamW: what a member reaches by equal steps, and what a step costs.

    python -m benchmarks.optimizers emoji     # or objects820

Trains the first member of recipes/SET.toml beside its cloud model for a short schedule: by Muon,
and by AdamW with the same rate and decay, with a rate of its own, and with that for twice the
steps. Resumable; writes benchmarks/results/optimizers-SET.md and .json: the cross-test on unseen
classes, and the time of a step as a ratio, all taking turns in one run.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import VIEWS, HeldOut
from benchmarks.tables import Row, publish_table
from compat.embedding import cosine_rows
from registry.stages import family_of, train
from registry.workspace import Workspace
from server_models.config import read_family
from server_models.config_section import Schedule
from server_models.member_config import MemberConfig, Method
from server_models.optimizer import optimizers
from server_models.query_net import build

RECIPES = Path(__file__).parent / "recipes"
SETS = ("emoji", "objects820")
STEPS, BATCH, TURNS = 600, 32, 30
ADAMW_RATE = 3e-3
REFERENCE = "muon"


def ways(member: MemberConfig) -> dict[str, MemberConfig]:
    """The member by each optimiser, under a name of its own."""
    adamw = Schedule(steps=STEPS, batch=BATCH, learning_rate=ADAMW_RATE)
    like = member.schedule.model_copy(update={"steps": STEPS, "batch": BATCH})
    schedules: dict[str, tuple[Method, Schedule]] = {
        "adamw": ("adamw", adamw),
        "adamw-like-muon": ("adamw", like),
        "adamw-twice": ("adamw", adamw.model_copy(update={"steps": 2 * STEPS})),
        "muon": ("muon", like),
    }
    return {
        name: member.model_copy(
            update={"name": f"by-{name}", "optimizer": method, "schedule": schedule}
        )
        for name, (method, schedule) in schedules.items()
    }


def step_seconds(members: dict[str, MemberConfig], dim: int) -> dict[str, float]:
    """Median of a step of the network and its optimisers, the ways taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in members}
    nets, moved = {}, {}
    for name, member in members.items():
        nets[name] = build(member, dim)
        nets[name].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moved[name] = optimizers(nets[name], [], member.schedule, member.optimizer)
    for _ in range(TURNS):
        for name, member in members.items():
            side = member.preprocess.size_px
            images = torch.randn(BATCH, 3, side, side).to(memory_format=torch.channels_last)
            start = time.perf_counter()
            torch.autograd.backward(nets[name](images).square().mean())
            for each in moved[name]:
                each.step()
                each.zero_grad()
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def rows_of(held_out: HeldOut, members: dict[str, MemberConfig]) -> list[Row]:
    """One row a way; how far Muon is above it, query by query."""
    cloud, dim = held_out.cloud, held_out.family.config.dim
    queries = {name: held_out.member(member).queries for name, member in members.items()}
    tested = {name: held_out.test(said, cloud.gallery) for name, said in queries.items()}
    seconds = step_seconds(members, dim)
    rows: list[Row] = []
    for name, member in members.items():
        hits = held_out.mean(tested[name].hit_rate_at_10)
        found = held_out.mean(tested[name].average_precision)
        above = held_out.difference(
            tested[REFERENCE].average_precision, tested[name].average_precision
        )
        rows.append(
            {
                "optimiser": member.optimizer,
                "steps": member.schedule.steps,
                "rate": member.schedule.learning_rate,
                "a step's time": round(seconds[name] / seconds["adamw"], 2),
                "cosine to the gallery model": float(
                    cosine_rows(queries[name], cloud.queries).mean()
                ),
                "cross hit_rate@10": hits.value,
                "cross mAP": found.value,
                "Muon above, mAP": "–"
                if name == REFERENCE
                else f"{above.value:+.4f} ({above.low:+.4f} to {above.high:+.4f})",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=SETS)
    name = parser.parse_args().set
    config = read_family(RECIPES / f"{name}.toml")
    members = ways(config.members[0])
    config = config.model_copy(update={"members": tuple(members.values())})
    workspace = Workspace(cache_folder() / "runs" / name)
    train(config, workspace)
    held_out = HeldOut(family_of(config, workspace), gallery_view=VIEWS[name])
    paragon = held_out.test(held_out.cloud.queries, held_out.cloud.gallery)
    notes = [
        f"{members['muon'].backbone} at {members['muon'].preprocess.size_px} px, batches of "
        f"{BATCH}, seed {config.seed}; {len(set(held_out.classes))} unseen classes; fractions. "
        f"Paragon: hit_rate@10 {held_out.mean(paragon.hit_rate_at_10).value:.4f}, mAP "
        f"{held_out.mean(paragon.average_precision).value:.4f}.",
        f"Made by `python -m benchmarks.optimizers {name}`.",
    ]
    title = f"What moves a member's weights ({name})"
    publish_table(f"optimizers-{name}", title, rows_of(held_out, members), notes=notes)


if __name__ == "__main__":
    main()
