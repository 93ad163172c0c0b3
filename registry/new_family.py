"""A first TOML for a folder of images: settings that need no tuning, schedules by its size."""

from dataclasses import dataclass

from compat.dataset import Dataset
from server_models.lite_net import IMAGENET_MEAN, IMAGENET_STD

CLOUD_EPOCHS, MEMBER_EPOCHS = 15, 60  # of the training images
CLOUD_BATCH, MEMBER_BATCH = 32, 64
CLOUD_STEPS, MEMBER_STEPS = (150, 2400), (400, 16000)  # at least, at most


@dataclass(frozen=True)
class Counted:
    """What decides the schedules."""

    classes: int
    training_images: int
    learned_on: int  # by a member

    @classmethod
    def of(cls, dataset: Dataset) -> "Counted":
        """Raises DataError when a split or a role is missing."""
        training = dataset.of("train")
        for split in ("train", "test"):
            for role in ("query", "gallery"):
                dataset.of(split, role)
        labels = {image.label for image in training}
        return cls(len(labels), len(training), sum(image.a_phone_may_take_it for image in training))

    @property
    def cloud_steps(self) -> int:
        return _within(self.training_images * CLOUD_EPOCHS // CLOUD_BATCH, CLOUD_STEPS)

    @property
    def member_steps(self) -> int:
        return _within(self.learned_on * MEMBER_EPOCHS // MEMBER_BATCH, MEMBER_STEPS)


def _within(steps: int, limits: tuple[int, int]) -> int:
    return max(limits[0], min(limits[1], steps))


def family_toml(name: str, path: str, counted: Counted, *, skip_bad: bool) -> str:
    """The TOML of a family named ``name`` on the images at ``path``."""
    recipe = f"mean = {list(IMAGENET_MEAN)}\nstd = {list(IMAGENET_STD)}"
    skipped = 'on_bad_image = "skip" # they are listed beside the runs\n' if skip_bad else ""
    return f"""# {counted.training_images} training images of {counted.classes} classes.
#   kinspace train {name}.toml && kinspace export {name}.toml && kinspace verify {name}.toml
family = "{name}"
version = "1.0.0"
dim = 128
seed = 0

[data]
path = "{path}"
{skipped}
[cloud] # 125 M MACs
backbone = "efficientnet-lite0"
frozen_blocks = 5
scale = 16
margin = 0.15
head_learning_rate = 6e-3
schedule = {{ steps = {counted.cloud_steps}, batch = {CLOUD_BATCH}, learning_rate = 6e-4 }}

[cloud.preprocess]
size_px = 128
{recipe}

[[members]] # 60 M MACs: the cloud's own weights at a lower resolution
name = "edge-l"
backbone = "efficientnet-lite0"
start = "cloud"
schedule = {{ steps = {max(100, counted.cloud_steps // 2)}, batch = 40, learning_rate = 4e-4 }}

[members.preprocess]
size_px = 88
{recipe}

[[members]] # 13 M MACs
name = "edge-m"
backbone = "kin-m"
preprocess = {{ size_px = 96 }}
schedule = {{ steps = {counted.member_steps}, batch = {MEMBER_BATCH}, learning_rate = 3e-3 }}
"""
