"""Compatibility-aware architecture search (CMP-NAS, arXiv:2105.06047): from a family to a front.

The supernet is trained with the family's compatibility losses; candidates are slices of it, judged
on classes that it never saw (the split ``val``) by a reward of self-test M(q, q) and cross-test
M(q, g); the best ones are retrained from scratch and judged again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compat.errors import ConfigError
from compat.files import digest_of, read_bounded
from compat.preprocess import Floats
from compat.retrieval import mean, retrieval_per_query
from compat.scores import Relevance, relevance
from compat.terminal import STDERR
from compat.wire import canonical_json
from server_models.architecture import Architecture
from server_models.checkpoint import MAX_CHECKPOINT_BYTES, load_weights
from server_models.config import SearchConfig
from server_models.edge_net import EdgeNet
from server_models.embed import embed_all
from server_models.evolution import Fitness, Trial, evolve, front
from server_models.export import count_macs
from server_models.family import Family
from server_models.latency import LatencyTable
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded, decode_all
from server_models.run_folder import RunFolder
from server_models.supernet import SuperNet, recalibrate
from server_models.train_supernet import sized, train_supernet

SUPERNET = "supernet"
JUDGED_ON = "val"
RECALIBRATION_BATCHES, RECALIBRATION_BATCH = 8, 64


@dataclass(frozen=True)
class Judged:
    """A network by its accuracy on classes that nobody trained on: mAP, fractions."""

    self_map: float  # M(q, q)
    cross_map: float  # M(q, g)

    def reward(self, name: str) -> float:
        """R1 = M(q,q), R2 = M(q,g), R3 = their product, the best of the three."""
        rewards = {"R1": self.self_map, "R2": self.cross_map, "R3": self.self_map * self.cross_map}
        return rewards[name]


class Search:
    """One search of one family; everything it needs is read once."""

    def __init__(self, family: Family) -> None:
        if family.config.search is None:
            raise ConfigError("the family has no [search] section: add one, see docs/search.md")
        self.family = family
        self.config: SearchConfig = family.config.search
        self.member: MemberConfig = next(
            m for m in family.config.members if m.name == self.config.member
        )
        family.dataset.of(JUDGED_ON, "query")  # refuses a set without such classes before the work
        family.dataset.of(JUDGED_ON, "gallery")

    @property
    def folder(self) -> RunFolder:
        return self.family.folder(SUPERNET)

    @property
    def trials_log(self) -> Path:
        """Where every candidate is kept; another supernet, or another aim, has another file."""
        weights = digest_of(read_bounded(self.folder.weights, MAX_CHECKPOINT_BYTES))
        config = self.config.model_dump(mode="json", exclude={"generations", "retrain"})
        key = digest_of(canonical_json({"supernet": weights, "search": config}))
        return self.folder.path / f"trials-{key[:12]}.jsonl"

    def train(self) -> None:
        """Train the supernet; goes on from where it was stopped."""
        train_supernet(
            self.family.config,
            self.config,
            self.member,
            {size_px: self._decoded("train", None, size_px) for size_px in self._sizes},
            self.family.gallery_model,
            anchors=self.family.anchors(),
            data_digest=self.family.dataset.digest,
            folder=self.folder,
        )

    def evolve(self) -> tuple[Trial, ...]:
        """Every candidate, judged; goes on from where it was stopped."""
        table = LatencyTable(self.folder.path / "latency.json")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=STDERR) as bar:
            shown = bar.add_task("evolve", total=None)

            def evaluate(decisions: dict[str, int]) -> Fitness:
                net = self.config.space.build(decisions)
                macs = count_macs(EdgeNet(net, self.family.config.dim), net.size_px)
                cost = macs if self.config.cost == "macs" else table.of(net)
                excess = macs - self.config.max_macs
                if excess > 0:
                    return Fitness(0.0, cost, excess)
                judged = self.judge(self.inherited(decisions), net.size_px)
                return Fitness(judged.reward(self.config.reward), cost, excess)

            return evolve(
                self.trials_log,
                self.config.space.choices,
                evaluate,
                population=self.config.population,
                trials=self.config.population * self.config.generations,
                seed=self.family.config.seed,
                progress=lambda done, total: bar.update(shown, completed=done, total=total),
            )

    def best(self, trials: tuple[Trial, ...]) -> tuple[MemberConfig, ...]:
        """The allowed candidates of the highest reward, each another network, as members."""
        ordered = sorted(
            (trial for trial in trials if trial.is_allowed),
            key=lambda trial: (-trial.fitness.reward, trial.number),
        )
        nets: list[Architecture] = []
        for trial in ordered:
            net = self.config.space.build(trial.decisions)
            if net not in nets:
                nets.append(net)
        return tuple(
            self.member.model_copy(
                update={
                    "name": f"searched-{place}",
                    "backbone": net,
                    "start": "nothing",
                    "preprocess": sized(self.member.preprocess, net.size_px),
                }
            )
            for place, net in enumerate(nets[: self.config.retrain], 1)
        )

    def inherited(self, decisions: dict[str, int]) -> EdgeNet:
        """A candidate with the supernet's weights, its batch statistics measured anew."""
        net = self._supernet.inherit(decisions, self.family.config.dim)
        size_px = decisions["size_px"]
        decoded = self._decoded("train", "query", size_px)
        rng = np.random.default_rng(self.family.config.seed)
        rows = rng.permutation(len(decoded.pixels))[: RECALIBRATION_BATCHES * RECALIBRATION_BATCH]
        recipe = sized(self.member.preprocess, size_px)
        images = torch.from_numpy(recipe.normalised(decoded.pixels[rows])).permute(0, 3, 1, 2)
        batches = torch.split(images, RECALIBRATION_BATCH)
        recalibrate(net, batches)
        return net

    def judge(self, net: EdgeNet, size_px: int) -> Judged:
        """Self-test and cross-test of ``net`` on the held-out classes."""
        query, gallery = (self._embedded(net, role, size_px) for role in ("query", "gallery"))
        tests = (
            retrieval_per_query(query, side, self._relevance)
            for side in (gallery, self._cloud_gallery)
        )
        own, cross = (mean(test.average_precision).value for test in tests)
        return Judged(own, cross)

    def _embedded(self, net: EdgeNet, role: str, size_px: int) -> Floats:
        pixels = self._decoded(JUDGED_ON, role, size_px).pixels
        return embed_all(net, sized(self.member.preprocess, size_px), pixels)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return self.config.space.sizes_px

    @cached_property
    def _kept(self) -> dict[tuple[str, str | None, int], Decoded]:
        return {}

    def _decoded(self, split: str, role: str | None, size_px: int) -> Decoded:
        key = (split, role, size_px)
        if key not in self._kept:
            images = self.family.dataset.of(split, role)
            recipe = sized(self.member.preprocess, size_px)
            title = f"decode {split} at {size_px} px"
            self._kept[key] = decode_all(images, recipe, title=title)
        return self._kept[key]

    @cached_property
    def _supernet(self) -> SuperNet:
        net = SuperNet(self.config.space, self.family.config.dim)
        load_weights(self.folder.weights, net)
        return net

    @cached_property
    def _relevance(self) -> Relevance:
        labels = (
            [image.label for image in self.family.dataset.of(JUDGED_ON, role)]
            for role in ("query", "gallery")
        )
        return relevance(*labels)

    @cached_property
    def _cloud_gallery(self) -> Floats:
        images = self.family.dataset.of(JUDGED_ON, "gallery")
        return self.family.gallery_model.embed(images, title="embed the gallery")


def found(search: Search, trials: tuple[Trial, ...]) -> list[Mapping[str, object]]:
    """The front as plain values, cheapest first."""
    return [
        {
            "trial": trial.number,
            "reward": trial.fitness.reward,
            "cost": trial.fitness.cost,
            "architecture": search.config.space.build(trial.decisions).model_dump(mode="json"),
        }
        for trial in front(trials)
    ]
