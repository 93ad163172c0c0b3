"""A family's TOML: strict, frozen, units in the names; an unknown key stops the run."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from compat.errors import ConfigError
from compat.files import read_bounded
from compat.policy import Policy
from compat.space import EmbeddingSpace, Name
from server_models.architecture import Architecture, SearchSpace
from server_models.cloud_config import KINDS_OF_CLOUD, AnyCloud, GivenCloud
from server_models.config_section import Schedule, Section
from server_models.loss_config import BACKWARD, CONGRUENT, Losses
from server_models.member_config import MemberConfig

MAX_CONFIG_BYTES = 2**20


class DataConfig(Section):
    path: Path  # a folder per class, a manifest.csv or a .parquet; relative to the TOML
    unlabelled: Path | None = None  # a folder of images, or a CSV with a column `path`: members too
    on_bad_image: Literal["stop", "skip"] = "stop"


class UpgradeConfig(Section):
    """What keeps a new cloud model compatible with the old one: `kinspace upgrade`."""

    losses: Losses = BACKWARD
    aim: Literal["class", "image"] = "class"  # half-way to its class in the old gallery, or its own
    start: Literal["backbone", "old"] = "backbone"  # weights: the backbone's own, the old model's

    @field_validator("losses")
    @classmethod
    def _of_a_gallery_model(cls, losses: Losses) -> Losses:
        if named := sorted(CONGRUENT.intersection(each.term for each in losses)):
            raise ValueError(f"{named} compare query models: a member's section can have them")
        return losses


class SearchConfig(Section):
    """Which edge network to take: a supernet trained once, an evolution over its slices."""

    space: SearchSpace = SearchSpace()
    max_macs: int = Field(gt=0)  # of one image
    cost: Literal["macs", "latency"] = "macs"  # latency: measured on ONNX Runtime on this machine
    reward: Literal["R1", "R2", "R3"] = "R3"  # self, cross, self * cross: mAP on held-out classes
    warm_up_steps: int = Field(default=200, ge=0)  # whole width, mean of all kernels, no sampling
    schedule: Schedule  # of the supernet, warm-up included
    population: int = Field(default=50, ge=4)
    generations: int = Field(default=20, ge=1)
    retrain: int = Field(default=5, ge=0)  # the best ones, from scratch, by `member`
    member: str  # the member of this family whose losses, recipe and schedule are used


class FamilyConfig(Section):
    """Everything that decides what a family becomes."""

    family: Name
    version: str = "1.0.0"
    generation: int = Field(default=1, ge=1)
    dim: int = Field(default=128, ge=2)
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    cloud: AnyCloud
    members: tuple[MemberConfig, ...] = Field(min_length=1)
    policy: Policy = Policy()
    search: SearchConfig | None = None
    upgrade: UpgradeConfig | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [self.cloud.name, *(member.name for member in self.members)]
        if len(set(names)) != len(names):
            raise ValueError(f"model names repeat: {names}")
        if self.search and self.search.member not in names[1:]:
            raise ValueError(f"search.member must be one of {names[1:]}, not {self.search.member}")
        searched = [m for m in self.members if self.search and m.name == self.search.member]
        if any(member.previous or member.update for member in searched):
            raise ValueError(
                f"search.member {searched[0].name} follows an earlier model (`previous`, `update`) "
                "and a search trains many networks at once: name a member that does not"
            )
        for member in self.members:
            cloud = getattr(self.cloud, "backbone", "one whose weights are known")
            if member.start == "cloud" and member.backbone != cloud:
                raise ValueError(
                    f"{member.name} starts from the cloud model's weights, so its backbone must be "
                    f"{cloud}, not {member.backbone}"
                )
        return self

    @property
    def space(self) -> EmbeddingSpace:
        return EmbeddingSpace(family=self.family, generation=self.generation, dim=self.dim)


def _key(location: tuple[int | str, ...]) -> str:
    """A key as the TOML spells it: which of several kinds it was read as is not part of it."""
    kinds = (*KINDS_OF_CLOUD, Architecture.__name__)
    spelled = (str(part) for part in location if part not in kinds)
    return ".".join(part for part in spelled if not part.startswith("literal["))


def _innermost(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those of a list that are only said because one of its items is wrong."""

    def within(item: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
        return len(item) > len(outer) and item[: len(outer)] == outer

    return [e for e in errors if not any(within(other["loc"], e["loc"]) for other in errors)]


def read_family(path: Path) -> FamilyConfig:
    """Read FAMILY.toml; paths in it are relative to it.

    Raises:
        ConfigError: naming the key, what is wrong with it, and what is known.
    """
    blob = read_bounded(path, MAX_CONFIG_BYTES)
    try:
        family = FamilyConfig.model_validate(tomllib.loads(blob.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{_key(e['loc'])}: {e['msg']}" for e in _innermost(error.errors())]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from error

    def beside(given: Path) -> Path:
        return (path.parent / given.expanduser()).resolve()

    named = {key: getattr(family.data, key) for key in ("path", "unlabelled")}
    found = {key: beside(each) for key, each in named.items() if each}
    changed: dict[str, object] = {
        "data": family.data.model_copy(update=found),
        "members": tuple(_placed(member, beside) for member in family.members),
    }
    if isinstance(family.cloud, GivenCloud):
        changed["cloud"] = family.cloud.placed(beside)
    return family.model_copy(update=changed)


def _placed(member: MemberConfig, beside: Callable[[Path], Path]) -> MemberConfig:
    """The same with its paths found from the TOML."""
    changed: dict[str, object] = {"previous": tuple(map(beside, member.previous))}
    if member.update:
        weights = beside(member.update.weights)
        changed["update"] = member.update.model_copy(update={"weights": weights})
    return member.model_copy(update=changed)
