"""The flips table: who gets worse when a model gets better, with and without congruent training.

    python -m benchmarks.flips [objects820 | emoji | retrieval] [--runs FOLDER]

Old models learn from half of the pictures, new ones from all of them and from another seed. Each
new model is trained plainly, by naive re-weighting, by focal distillation of the old one (FD-KL,
FD-LM), towards an ensemble of plain new ones and towards one that is half old, and begun with the
old weights: of the same architecture and, on Objects-820, of a larger one, which cannot begin so.
Query models for retrieval likewise agree with the old query model. Resumable; half an hour of one
core. Writes benchmarks/results/flips.json and flips.md, where the rows of parts that are not asked
for stay as they were.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.data.cache import cache_folder, write_atomic
from benchmarks.flips_tasks import (
    RECIPE,
    Search,
    Task,
    emoji_task,
    family_of,
    objects_search,
    objects_task,
)
from compat.flips import count_flips
from compat.report_parts import Estimate
from compat.retrieval import PerQuery, RetrievalPerQuery
from compat.statistics import mean_interval, paired_difference_interval
from compat.wire import canonical_json
from server_models.cloud_config import EdgeBackbone
from server_models.config_section import Schedule
from server_models.embed import embed_all
from server_models.loss_config import LossTerm
from server_models.member_config import MemberConfig, Start
from server_models.pixels import Decoded, decode_all
from server_models.previous import read_previous
from server_models.run_folder import RunFolder
from server_models.train_edge import train_edge

RESULTS = Path(__file__).parent / "results"
ANCHORED = (
    LossTerm(term="regression", weight=1.0),
    LossTerm(term="csd", weight=0.5),
    LossTerm(term="influence", weight=0.1),
)
PLAIN = (LossTerm(term="classification", weight=1.0),)
SCHEDULE = Schedule(steps=160, batch=48, learning_rate=2e-3)
SEARCH_SCHEDULE = Schedule(steps=200, batch=64, learning_rate=3e-3)
OLD_BACKBONE: EdgeBackbone = "kin-s"
OLD_SEED, NEW_SEED, OTHER_SEED = 0, 1, 2
LM, KL = 0.02, 1.0  # FD-KL at T = 100 is FD-LM over the number of classes, nearly
CONGRUENT: Mapping[str, tuple[LossTerm, ...]] = {
    "naive re-weighting": (LossTerm(term="reweighted", weight=1.0),),
    "FD-KL": (*PLAIN, LossTerm(term="fd_kl", weight=KL)),
    "FD-LM": (*PLAIN, LossTerm(term="fd_lm", weight=LM)),
}
FROM_OLD: Mapping[str, tuple[LossTerm, ...]] = {  # begun with the old model's weights
    "from the old": PLAIN,
    "from the old, half FD-KL": (*PLAIN, LossTerm(term="fd_kl", weight=KL / 2)),
}
ENSEMBLE = "ensemble target"
WITH_OLD = "ensemble target half old"
SAME: Mapping[str, EdgeBackbone] = {"same architecture": OLD_BACKBONE}
LARGER: Mapping[str, EdgeBackbone] = {"small to large": "kin-m"}
SEARCH_CONGRUENT: Mapping[str, tuple[LossTerm, ...]] = {
    "focal regression": (*ANCHORED, LossTerm(term="fd_regression", weight=0.5)),
    "focal regression, 4 times": (*ANCHORED, LossTerm(term="fd_regression", weight=2.0)),
    "focal regression, 10 times": (*ANCHORED, LossTerm(term="fd_regression", weight=5.0)),
    "focal relation": (*ANCHORED, LossTerm(term="fd_csd", weight=0.3)),
    "both, 4 times": (
        *ANCHORED,
        LossTerm(term="fd_regression", weight=2.0),
        LossTerm(term="fd_csd", weight=1.2),
    ),
}


@dataclass(frozen=True)
class Trainer:
    """Trains query models on one task, each in a folder of its own; a finished one is loaded."""

    task: Task
    decoded: Decoded
    runs: Path
    schedule: Schedule

    def train(
        self,
        name: str,
        losses: tuple[LossTerm, ...],
        *,
        seed: int,
        backbone: EdgeBackbone = "kin-s",
        start: Start = "starter",
        rows: Sequence[int] | None = None,
        previous: tuple[Path, ...] = (),
    ) -> Path:
        """On ``rows`` of what the task has to learn from, all when left out; where it lies."""
        folder = self.runs / self.task.name / name
        member = MemberConfig(
            name=name.lower(),
            backbone=backbone,
            start=start,
            preprocess=RECIPE,
            losses=losses,
            previous=previous,
            schedule=self.schedule,
            optimizer="adamw",
        )
        kept = list(range(len(self.task.learned))) if rows is None else list(rows)
        images = tuple(self.task.learned[row] for row in kept)
        train_edge(
            family_of(seed, self.schedule),
            member,
            Decoded(images, self.decoded.pixels[kept]),
            self.task.cloud,
            anchors=self.task.anchors[kept],
            data_digest=f"{self.task.name} {len(kept)}",
            folder=RunFolder(folder),
        )
        return folder


def train_pair(trainer: Trainer, old: Path, backbone: EdgeBackbone) -> dict[str, Path]:
    """Method -> where the new model of that architecture lies."""

    def new(
        method: str,
        losses: tuple[LossTerm, ...],
        previous: tuple[Path, ...] = (),
        seed: int = NEW_SEED,
        start: Start = "starter",
    ) -> Path:
        name = f"{backbone}-{method.lower().replace(',', '').replace(' ', '-')}"
        return trainer.train(
            name, losses, seed=seed, backbone=backbone, start=start, previous=previous
        )

    found = {"none": new("none", PLAIN)}
    for method, losses in CONGRUENT.items():
        found[method] = new(method, losses, (old,))
    other = new("other", PLAIN, seed=OTHER_SEED)
    plain = (found["none"], other)
    found[ENSEMBLE] = new(ENSEMBLE, CONGRUENT["FD-LM"], plain)
    found[WITH_OLD] = new(WITH_OLD, CONGRUENT["FD-LM"], (*plain, old, old))
    if backbone == OLD_BACKBONE:
        for method, losses in FROM_OLD.items():
            found[method] = new(method, losses, (old,), start="previous")
    return found


def is_right(folder: Path, asked: Decoded) -> PerQuery:
    """Whether the model names each image's class: (Q,) of 0 and 1."""
    model = read_previous(folder)
    assert model.head is not None
    embeddings = torch.from_numpy(embed_all(model.net, model.recipe, asked.pixels))  # (Q, D)
    named = (embeddings @ F.normalize(model.head.weight).T).argmax(1).tolist()
    labels = [image.label for image in asked.images]
    right = [model.head.classes[row] == label for row, label in zip(named, labels, strict=True)]
    return np.array(right, dtype=np.float64)


def rows_of(
    where: Mapping[str, str], right: Mapping[str, PerQuery], old: PerQuery, labels: list[str]
) -> list[dict[str, object]]:
    """One row a method: ``right`` per query by it, against ``old`` and against plain training."""
    plain = right["none"]
    plain_flips = count_flips(old, plain)
    rows: list[dict[str, object]] = []
    for method, new in right.items():
        flips = count_flips(old, new)
        error = mean_interval(1 - new, labels)
        nfr = mean_interval(flips.negative_per_query, labels)
        more = paired_difference_interval(1 - new, 1 - plain, labels)
        fewer = paired_difference_interval(
            flips.negative_per_query, plain_flips.negative_per_query, labels
        )
        rows.append(
            {
                **where,
                "method": method,
                "error": round(error.value, 4),
                "nfr": round(nfr.value, 4),
                "relative_nfr": _rounded(flips.relative_nfr),
                "old_error": round(float(np.nanmean(1 - old)), 4),
                "error_interval": _interval(error),
                "nfr_interval": _interval(nfr),
                "error_minus_none": [round(more.value, 4), *_interval(more)],
                "nfr_minus_none": [round(fewer.value, 4), *_interval(fewer)],
                "relative_nfr_to_none": _ratio(flips.relative_nfr, plain_flips.relative_nfr),
                "queries": nfr.counted,
            }
        )
    return rows


def _interval(found: Estimate) -> list[float]:
    return [round(found.low, 4), round(found.high, 4)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ratio(ours: float | None, plain: float | None) -> float | None:
    return round(ours / plain, 4) if ours is not None and plain else None


def classification(
    task: Task, runs: Path, pairs: Mapping[str, EdgeBackbone]
) -> list[dict[str, object]]:
    """Held-out pictures of known classes."""
    decoded = decode_all(task.learned, RECIPE, title=f"decode {task.name}")
    asked = decode_all(task.asked, RECIPE, title=f"decode {task.name}, asked")
    trainer = Trainer(task, decoded, runs, SCHEDULE)
    old = trainer.train("old", PLAIN, seed=OLD_SEED, rows=task.old)
    labels = [image.label for image in task.asked]
    rows: list[dict[str, object]] = []
    for pair, backbone in pairs.items():
        found = train_pair(trainer, old, backbone)
        right = {method: is_right(folder, asked) for method, folder in found.items()}
        rows += rows_of({"set": task.name, "pair": pair}, right, is_right(old, asked), labels)
    return rows


def retrieval(search: Search, runs: Path) -> list[dict[str, object]]:
    """Unseen classes: the first ten of the cloud's gallery held a right one, and do no more."""
    decoded = decode_all(search.task.learned, RECIPE, title="decode for retrieval")
    trainer = Trainer(search.task, decoded, runs, SEARCH_SCHEDULE)
    old = trainer.train("old", ANCHORED, seed=OLD_SEED, rows=search.task.old)
    found = {"none": trainer.train("none", ANCHORED, seed=NEW_SEED)}
    for method, losses in SEARCH_CONGRUENT.items():
        name = method.replace(", ", " ").replace(" ", "-")
        found[method] = trainer.train(name, losses, seed=NEW_SEED, previous=(old,))
    queries = decode_all(search.held_out.queries, RECIPE, title="decode queries")

    def tested(folder: Path) -> RetrievalPerQuery:
        model = read_previous(folder)
        embeddings = embed_all(model.net, model.recipe, queries.pixels)
        return search.held_out.test(embeddings, search.held_out.cloud.gallery)

    before, now = tested(old), {method: tested(folder) for method, folder in found.items()}
    classes = search.held_out.classes
    at_one = {method: each.hit_rate_at_1 for method, each in now.items()}
    at_ten = {method: each.hit_rate_at_10 for method, each in now.items()}
    where = {"set": "objects820", "pair": "retrieval, rank 1"}
    rows = rows_of(where, at_one, before.hit_rate_at_1, classes)
    where = {"set": "objects820", "pair": "retrieval, top 10"}
    return rows + rows_of(where, at_ten, before.hit_rate_at_10, classes)


KEY = (
    "Percent; 95% intervals resample whole classes. NFR: right by the old model, wrong by the new.",
    "Relative NFR: over that of two models that err independently. Left: the share of plain",
    "training's relative NFR that is left, 50 is half. More: points of error above plain training.",
)


def table_of(rows: list[dict[str, object]]) -> str:
    """Markdown; percent lives here."""
    columns = ("set", "pair", "old error", "method", "error", "NFR", "relative NFR", "left", "more")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        relative, ratio = row["relative_nfr"], row["relative_nfr_to_none"]
        low, high = _numbers(row["nfr_interval"])
        more = [f"{100 * x:+.1f}" for x in _numbers(row["error_minus_none"])]
        lines.append(
            f"| {row['set']} | {row['pair']} | {_percent(row['old_error'])} | {row['method']} "
            f"| {_percent(row['error'])} | {_percent(row['nfr'])} "
            f"({_percent(low)} to {_percent(high)}) | {_percent(relative)} "
            f"| {'' if row['method'] == 'none' else _percent(ratio)} "
            f"| {'' if row['method'] == 'none' else f'{more[0]} ({more[1]} to {more[2]})'} |"
        )
    return "\n".join((*lines, "", *KEY, ""))


def _numbers(value: object) -> list[float]:
    assert isinstance(value, list)
    return value


def _percent(value: object) -> str:
    return "–" if value is None else f"{100 * float(str(value)):.1f}"


PARTS: Mapping[str, Callable[[Path], list[dict[str, object]]]] = {
    "objects820": lambda runs: classification(objects_task(), runs, {**SAME, **LARGER}),
    "emoji": lambda runs: classification(emoji_task(), runs, SAME),
    "retrieval": lambda runs: retrieval(objects_search(), runs),
}


def merged(kept: list[dict[str, object]], new: list[dict[str, object]]) -> list[dict[str, object]]:
    """``new`` rows in place of those of the same set and pair, the others as they were."""
    measured = {(row["set"], row["pair"]) for row in new}
    return [row for row in kept if (row["set"], row["pair"]) not in measured] + new


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--runs", type=Path, default=cache_folder() / "runs" / "flips")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {sorted(unknown)}, only {sorted(PARTS)}")
    file = RESULTS / "flips.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for part in given.parts or PARTS:
        rows = merged(rows, PARTS[part](given.runs))
        table = table_of(rows)
        write_atomic(file, canonical_json({"rows": rows}))
        write_atomic(RESULTS / "flips.md", table.encode())
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
