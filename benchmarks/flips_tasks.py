"""What the flips table is measured on: known classes, seen in new pictures.

Objects-820: 60 objects in the wild, 16 views of each to learn from, 8 others to be asked about.
Emoji: 100 emoji in six styles, three other styles of each to be asked about; nobody's cloud model
was taught those, so an ImageNet network stands in for one.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import HeldOut
from compat.dataset import LabelledImage, read_dataset
from compat.preprocess import Floats, Preprocess
from server_models.cloud_config import CloudConfig
from server_models.config import DataConfig, FamilyConfig, read_family
from server_models.config_section import Schedule
from server_models.embed import embed_all
from server_models.family import Family
from server_models.gallery_model import GalleryModel, TrainedGallery
from server_models.lite_net import LiteNet
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all

DIM = 128
OBJECTS, EMOJI = 60, 100
LEARNED_VIEWS, ASKED_VIEWS = range(16), range(16, 24)
LEARNED_STYLES, ASKED_STYLES = 6, 3
OBJECTS_FAMILY = Path(__file__).parent / "recipes" / "objects820-lite.toml"
RECIPE = Preprocess(size_px=64)


@dataclass(frozen=True)
class Task:
    """Images of C classes; ``old`` are the rows of ``learned`` that the old model was taught on."""

    name: str
    learned: tuple[LabelledImage, ...]  # all of role query, or of both roles
    old: tuple[int, ...]
    asked: tuple[LabelledImage, ...]  # of the same classes; empty where others are asked for
    cloud: GalleryModel
    anchors: Floats  # (N, D), what the cloud says of ``learned``


def family_of(seed: int, schedule: Schedule, scale: float = 20.0) -> FamilyConfig:
    """What a member needs to know of its family."""
    cloud = CloudConfig(preprocess=RECIPE, scale=scale, schedule=schedule)
    member = MemberConfig(name="edge", backbone="kin-s", preprocess=RECIPE, schedule=schedule)
    return FamilyConfig(
        family="flips",
        dim=DIM,
        seed=seed,
        data=DataConfig(path=Path("unused")),
        cloud=cloud,
        members=(member,),
    )


def objects_family() -> Family:
    """Whose cloud model was trained on Objects-820, from ImageNet."""
    return Family(
        read_family(OBJECTS_FAMILY), cache_folder() / "runs" / "objects820-lite" / "models"
    )


def objects_task() -> Task:
    family = objects_family()
    images, anchors = family.dataset.of("train"), family.anchors()
    labels = sorted({image.label for image in images})
    chosen = set(np.random.default_rng(0).permutation(labels)[:OBJECTS].tolist())

    def rows(views: range) -> list[int]:
        names = {f"wild-{view:02d}" for view in views}
        return [
            row
            for row, image in enumerate(images)
            if image.label in chosen and image.columns["view"] in names
        ]

    learned = rows(LEARNED_VIEWS)
    is_even = [int(images[row].columns["view"][-2:]) % 2 == 0 for row in learned]
    return Task(
        name="objects820",
        learned=tuple(images[row] for row in learned),
        old=tuple(row for row, even in enumerate(is_even) if even),
        asked=tuple(images[row] for row in rows(ASKED_VIEWS)),
        cloud=family.gallery_model,
        anchors=anchors[learned],
    )


def emoji_task() -> Task:
    styles: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in read_dataset(cache_folder() / "emoji" / "64px").of("train"):
        styles[image.label].append(replace(image, role="query"))
    rng, needed = np.random.default_rng(0), LEARNED_STYLES + ASKED_STYLES
    full = sorted(label for label, images in styles.items() if len(images) >= needed)
    learned: list[LabelledImage] = []
    asked: list[LabelledImage] = []
    for label in rng.permutation(full)[:EMOJI].tolist():
        order = [styles[label][row] for row in rng.permutation(len(styles[label]))]
        learned += order[:LEARNED_STYLES]
        asked += order[LEARNED_STYLES:needed]
    torch.manual_seed(0)
    net = LiteNet("efficientnet-lite0", DIM)
    net.load_imagenet()
    decoded = decode_all(learned, RECIPE, title="decode for the cloud")
    anchors = embed_all(net.eval(), RECIPE, decoded.pixels, title="embed by the cloud")
    classes = len(decoded.classes)
    return Task(
        name="emoji",
        learned=tuple(learned),
        old=tuple(row for row in range(len(learned)) if row % 2 == 0),
        asked=tuple(asked),
        cloud=TrainedGallery(net, torch.randn(classes, DIM), RECIPE),
        anchors=anchors,
    )


@dataclass(frozen=True)
class Search:
    """Query models to train on ``task``, and the unseen classes that they are asked for."""

    task: Task
    held_out: HeldOut


def objects_search() -> Search:
    """All training objects; the gallery's pictures come along, nobody learns on them."""
    family = objects_family()
    images, anchors = family.dataset.of("train"), family.anchors()
    names = {f"wild-{view:02d}" for view in LEARNED_VIEWS}
    rows = [
        row
        for row, image in enumerate(images)
        if image.role == "gallery" or image.columns["view"] in names
    ]
    learned = tuple(images[row] for row in rows)
    old = tuple(
        row
        for row, image in enumerate(learned)
        if image.role == "gallery" or int(image.columns["view"][-2:]) % 2 == 0
    )
    task = Task(
        name="objects820-search",
        learned=learned,
        old=old,
        asked=(),
        cloud=family.gallery_model,
        anchors=anchors[rows],
    )
    return Search(task, HeldOut(family, gallery_view="studio"))
