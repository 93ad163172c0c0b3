"""Small classification tasks: what a thing is, taught by a few pictures, asked of unseen things.

Six kinds of object of Objects-820 and six groups of Emoji. No object or emoji is on both sides.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.data.cache import cache_folder
from benchmarks.data.emoji import STYLES
from benchmarks.data.packages import unpack
from compat.dataset import LabelledImage, read_dataset
from compat.preprocess import Preprocess
from server_models.pixels import decode_all

SIZE_PX = 64
TRAIN_PER_CLASS, TEST_PER_CLASS = 24, 40
KINDS = ("Bathroom", "Characters", "Doors and windows", "Exterior", "Lights", "Vehicles")
GROUPS = (
    "Activities",
    "Animals & Nature",
    "Food & Drink",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)


@dataclass(frozen=True)
class Task:
    """Images (N, 3, S, S) float32 normalised and their class numbers (N,)."""

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int

    def shots(self, count: int, *, draw: int) -> tuple[Tensor, Tensor]:
        """``count`` training images a class; a function of its arguments."""
        rng = np.random.default_rng((draw, count))
        rows = [
            torch.from_numpy(rng.permutation(np.flatnonzero(self.labels.numpy() == label))[:count])
            for label in range(self.classes)
        ]
        chosen = torch.cat(rows)
        return self.images[chosen], self.labels[chosen]


def objects_task() -> Task:
    """Which kind of furniture or thing a studio view shows."""
    images = read_dataset(cache_folder() / "objects820" / "128px").images
    shown = [image for image in images if image.columns["view"].startswith("studio")]
    return _task("objects820-kinds", [(i, i.columns["category"]) for i in shown], KINDS)


def emoji_task() -> Task:
    """Which Unicode group a coloured emoji is of."""
    [twemoji] = (style.package for style in STYLES if style.name == "twemoji")
    text = (unpack(twemoji) / "package/metadata.json").read_text(encoding="utf-8")
    group = {name: key for key, names in json.loads(text)["categories"].items() for name in names}
    images = read_dataset(cache_folder() / "emoji" / "64px").images
    shown = [image for image in images if image.columns["kind"] == "colour"]
    return _task("emoji-groups", [(i, group.get(i.label, "")) for i in shown], GROUPS)


def _task(name: str, rows: list[tuple[LabelledImage, str]], classes: tuple[str, ...]) -> Task:
    train = _drawn(rows, classes, ("train",), TRAIN_PER_CLASS)
    test = _drawn(rows, classes, ("val", "test"), TEST_PER_CLASS)
    return Task(name, *_loaded(train, classes), *_loaded(test, classes), len(classes))


def _drawn(
    rows: list[tuple[LabelledImage, str]],
    classes: tuple[str, ...],
    splits: tuple[str, ...],
    per_class: int,
) -> list[tuple[LabelledImage, str]]:
    """Pictures of as many different things as there are, one a thing before any second one."""
    rng = np.random.default_rng(0)
    chosen = []
    for each in classes:
        here = [image for image, of in rows if of == each and image.split in splits]
        order = [here[row] for row in rng.permutation(len(here))]
        turns: dict[str, int] = {}
        ranked = []
        for image in order:
            ranked.append((turns.setdefault(image.label, 0), image))
            turns[image.label] += 1
        ranked.sort(key=lambda pair: pair[0])
        chosen += [(image, each) for _, image in ranked[:per_class]]
    return chosen


def _loaded(
    rows: list[tuple[LabelledImage, str]], classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    recipe = Preprocess(size_px=SIZE_PX)
    decoded = decode_all([image for image, _ in rows], recipe, title="decode")
    images = torch.from_numpy(recipe.normalised(decoded.pixels)).permute(0, 3, 1, 2)
    return images, torch.tensor([classes.index(of) for _, of in rows])
