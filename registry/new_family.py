"""A first TOML for a folder of images: settings that need no tuning, schedules by its size."""

from dataclasses import dataclass

from compat.dataset import Dataset

CLOUD_EPOCHS, MEMBER_EPOCHS = 15, 64  # of the images that each learns on
BATCH = 32
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
        return _within(self.training_images * CLOUD_EPOCHS // BATCH, CLOUD_STEPS)

    @property
    def member_steps(self) -> int:
        return _within(self.learned_on * MEMBER_EPOCHS // BATCH, MEMBER_STEPS)


def _within(steps: int, limits: tuple[int, int]) -> int:
    return max(limits[0], min(limits[1], steps))


def family_toml(name: str, path: str, counted: Counted, *, skip_bad: bool) -> str:
    """The TOML of a family named ``name`` on the images at ``path``."""
    skipped = 'on_bad_image = "skip" # they are listed beside the runs\n' if skip_bad else ""
    cloud = f"steps = {counted.cloud_steps}, batch = {BATCH}, learning_rate = 1e-3"
    member = f"steps = {counted.member_steps}, batch = {BATCH}, learning_rate = 1.2e-2"
    return f"""# {counted.training_images} training images of {counted.classes} classes.
#   kinspace train {name}.toml && kinspace export {name}.toml && kinspace verify {name}.toml
family = "{name}"
version = "1.0.0"
dim = 128
seed = 0

[data]
path = "{path}"
{skipped}
[cloud] # 557 M MACs; a network that small ones can follow: docs/families.md
backbone = "resnet18-w32"
scale = 16
margin = 0.15
head_learning_rate = 1e-2
preprocess = {{ size_px = 64 }}
schedule = {{ {cloud}, weight_decay = 0.05 }}

[[members]] # 13 M MACs
name = "edge-l"
backbone = "kin-m"
preprocess = {{ size_px = 96 }}
schedule = {{ {member}, weight_decay = 0.03 }}

[[members]] # 6 M MACs
name = "edge-m"
backbone = "kin-m"
preprocess = {{ size_px = 64 }}
schedule = {{ {member}, weight_decay = 0.03 }}
"""
