"""A family's TOML: strict, frozen, units in the names; an unknown key stops the run."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from compat.errors import ConfigError
from compat.files import read_bounded
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace, Name
from server_models.architecture import Architecture, SearchSpace

MAX_CONFIG_BYTES = 2**20
LiteBackbone = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
EdgeBackbone = Literal["kin-s", "kin-w", "kin-m"]
ResidualBackbone = Literal["resnet18-w32"]
Method = Literal["muon", "adamw"]
Start = Literal["starter", "imagenet", "cloud", "previous", "nothing"]
TermName = Literal[
    "regression",  # land where the gallery model lands
    "csd",  # see the gallery's neighbourhoods as it does
    "influence",  # be read by its frozen head
    "synthesised",  # be read by the class means of its embeddings
    "distilled",  # be read by its frozen head as its own embedding is
    "influence_kd",  # be read by it where it knows the class, distilled where not
    "aml",
    "raml",
    "d3still",
    "boundary",
    "focal",  # these four see no coordinate of the gallery: baselines
    "logit_kd",
    "rkd",
    "classification",
    "fd_lm",  # the rest agree with `previous`, more where it was right: logits of the classes,
    "fd_kl",
    "fd_regression",  # and, in the gallery's space, its embedding
    "fd_csd",  # and what it saw around it
    "reweighted",  # a baseline: classification, heavier where `previous` was right
]

CONGRUENT: frozenset[TermName] = frozenset(
    ("fd_lm", "fd_kl", "fd_regression", "fd_csd", "reweighted")
)
STARTS_OF_LITE = ("imagenet", "cloud", "nothing")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    path: Path  # a folder per class, a manifest.csv or a .parquet; relative to the TOML
    unlabelled: Path | None = None  # a folder of images, or a CSV with a column `path`: members too
    on_bad_image: Literal["stop", "skip"] = "stop"


class Schedule(_Section):
    """Optimisation steps; the learning rate warms up over 5% of them and falls as a cosine."""

    steps: int = Field(gt=0)
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    save_every_steps: int = Field(default=100, gt=0)


class CloudConfig(_Section):
    """The gallery model: normalised embedding, normalised head."""

    name: Name = "cloud"
    backbone: ResidualBackbone | LiteBackbone | EdgeBackbone | Architecture = "efficientnet-lite0"
    start: Literal["backbone", "nothing"] = "backbone"  # its weights: ImageNet's, the starter's
    preprocess: Preprocess
    frozen_blocks: int = Field(default=6, ge=0)  # of a Lite backbone, counted from the image
    head_learning_rate: float = Field(default=0.01, gt=0)
    scale: float = Field(default=20.0, gt=0)  # of the cosines in the softmax
    margin: float = Field(default=0.2, ge=0, lt=1)
    schedule: Schedule

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model that begins as all do is written, and so digested, as it always was."""
        written: dict[str, Any] = handler(self)
        if self.start == "backbone":
            written.pop("start", None)
        return written


class GivenCloud(_Section):
    """A gallery model that somebody else trained: only its outputs are known."""

    name: Name = "cloud"
    scale: float = Field(default=20.0, gt=0)  # of the cosines in a softmax, for terms that use one

    @property
    def file(self) -> Path:
        raise NotImplementedError

    def within(self, folder: Path) -> Self:
        """The same with its file found from ``folder``."""
        raise NotImplementedError


class OnnxCloud(GivenCloud):
    """Only an ONNX file: one image in, one embedding out."""

    onnx: Path
    preprocess: Preprocess
    macs: int = Field(gt=0)  # of one image, as its maker states them

    @property
    def file(self) -> Path:
        return self.onnx

    def within(self, folder: Path) -> Self:
        return self.model_copy(update={"onnx": folder / self.onnx.expanduser()})


class TableCloud(GivenCloud):
    """Only what it said: a Parquet table with the columns path and vector."""

    vectors: Path

    @property
    def file(self) -> Path:
        return self.vectors

    def within(self, folder: Path) -> Self:
        return self.model_copy(update={"vectors": folder / self.vectors.expanduser()})


def _kind_of_cloud(section: object) -> str:
    """Which of the three a TOML section means, so that an error speaks of that one alone."""
    if not isinstance(section, dict):
        return type(section).__name__
    return next((kind.__name__ for key, kind in _GIVEN.items() if key in section), "CloudConfig")


_GIVEN: dict[str, type[GivenCloud]] = {"onnx": OnnxCloud, "vectors": TableCloud}
AnyCloud = Annotated[
    Annotated[CloudConfig, Tag("CloudConfig")]
    | Annotated[OnnxCloud, Tag("OnnxCloud")]
    | Annotated[TableCloud, Tag("TableCloud")],
    Discriminator(_kind_of_cloud),
]


class LossTerm(_Section):
    """A term of compat/losses and its weight."""

    term: TermName
    weight: float = Field(gt=0)


def _each_term_once(losses: tuple[LossTerm, ...]) -> tuple[LossTerm, ...]:
    named = [each.term for each in losses]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"losses name {repeated} twice: give each term once, with its weight")
    return losses


Losses = Annotated[tuple[LossTerm, ...], Field(min_length=1), AfterValidator(_each_term_once)]


ANCHORED = (  # what lands in the gallery best: benchmarks/results/pattern-*.md, "ours"
    LossTerm(term="regression", weight=1.0),
    LossTerm(term="csd", weight=0.5),
    LossTerm(term="d3still", weight=1.0),
    LossTerm(term="influence", weight=0.1),
)


class UpdateConfig(_Section):
    """A small step from a release: what stands still costs its devices no bytes."""

    weights: Path  # the release's weights.safetensors of this member; relative to the TOML
    learns: Literal["embedding", "weights"] = "embedding"  # the last layer, or all but batch norms


class MemberConfig(_Section):
    """A query model."""

    name: Name
    backbone: EdgeBackbone | LiteBackbone | Architecture
    start: Start = "starter"  # weights: shipped, packaged, the trained cloud's, `previous`, none
    preprocess: Preprocess
    aim: Literal["class", "image"] = "class"  # half-way to its class in the gallery, or its own
    losses: Losses = ANCHORED
    previous: tuple[Path, ...] = ()  # folders of earlier runs, RUN/models/MEMBER; many: an ensemble
    schedule: Schedule
    optimizer: Method = "muon"  # of its matrices; the rest is AdamW's
    update: UpdateConfig | None = None  # begin with a released member instead of ``start``

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A member that follows no earlier one is written, and so digested, as it always was."""
        written: dict[str, Any] = handler(self)
        if not self.previous:
            written.pop("previous", None)
        if self.update is None:
            written.pop("update", None)
        return written

    @model_validator(mode="after")
    def _previous_is_used(self) -> Self:
        named = sorted(CONGRUENT.intersection(each.term for each in self.losses))
        if named and not self.previous:
            raise ValueError(f"{named} compare with a previous run: name its folder in `previous`")
        if self.start == "previous" and not self.previous:
            raise ValueError('start = "previous" begins with an earlier run: name it in `previous`')
        if self.previous and not named and self.start != "previous":
            raise ValueError(f"no loss looks at `previous`: give one of {sorted(CONGRUENT)}")
        return self

    @model_validator(mode="after")
    def _start_exists(self) -> Self:
        known: tuple[str, ...]
        if self.start == "previous":
            return self
        if isinstance(self.backbone, Architecture):
            known, what = ("nothing",), "an architecture of your own"
        elif self.backbone in get_args(EdgeBackbone):
            known, what = ("starter", "nothing"), self.backbone
        else:
            known, what = STARTS_OF_LITE, self.backbone
        if self.start not in known:
            raise ValueError(f"{what} cannot start from {self.start!r}, only from {known}")
        return self


BACKWARD = (  # BCT with synthesised rows, and landing near what the old model said
    LossTerm(term="influence", weight=3.0),
    LossTerm(term="regression", weight=20.0),
)


class UpgradeConfig(_Section):
    """What keeps a new cloud model compatible with the old one: `kinspace upgrade`."""

    losses: Losses = BACKWARD
    aim: Literal["class", "image"] = "class"  # half-way to its class in the old gallery, or its own
    start: Literal["backbone", "old"] = "backbone"  # weights: the backbone's own, the old model's


class SearchConfig(_Section):
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


class FamilyConfig(_Section):
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
        if self.search and any(m.previous for m in self.members if m.name == self.search.member):
            raise ValueError(
                f"search.member {self.search.member} agrees with `previous`, and many networks are "
                "trained at once in a search: name a member that does not"
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
    """A key as the TOML spells it; which kind of gallery model it is read as is not part of it."""
    kinds = ("CloudConfig", *(kind.__name__ for kind in _GIVEN.values()))
    return ".".join(str(part) for part in location if part not in kinds)


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
        changed["cloud"] = family.cloud.within(path.parent.resolve())
    return family.model_copy(update=changed)


def _placed(member: MemberConfig, beside: Callable[[Path], Path]) -> MemberConfig:
    """The same with its paths found from the TOML."""
    changed: dict[str, object] = {"previous": tuple(map(beside, member.previous))}
    if member.update:
        weights = beside(member.update.weights)
        changed["update"] = member.update.model_copy(update={"weights": weights})
    return member.model_copy(update=changed)
