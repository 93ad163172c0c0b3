"""A query model in a family's TOML."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from compat.preprocess import Preprocess
from compat.space import Name
from server_models.architecture import Architecture
from server_models.cloud_config import EdgeBackbone, LiteBackbone
from server_models.config_section import Schedule, Section
from server_models.loss_config import ANCHORED, CONGRUENT, Losses

Method = Literal["muon", "adamw"]
Start = Literal["starter", "imagenet", "cloud", "previous", "nothing"]
STARTS_OF_LITE = ("imagenet", "cloud", "nothing")


class UpdateConfig(Section):
    """A small step from a release: what stands still costs its devices no bytes."""

    weights: Path  # the release's weights.safetensors of this member; relative to the TOML
    learns: Literal["embedding", "weights"] = "embedding"  # the last layer, or all but batch norms


class MemberConfig(Section):
    """A query model."""

    name: Name
    backbone: EdgeBackbone | LiteBackbone | Architecture
    start: Start = "starter"  # weights: shipped, packaged, the trained cloud's, `previous`, none
    preprocess: Preprocess
    aim: Literal["class", "image"] = "class"  # half-way to its class in the gallery, or its own
    losses: Losses = ANCHORED
    previous: tuple[Path, ...] = ()  # folders of earlier runs, RUN/models/MEMBER; many: an ensemble
    schedule: Schedule
    optimizer: Method = "muon"  # of its matrices; the rest is AdamW's, and all of an `update`
    update: UpdateConfig | None = None  # begin with a released member instead of ``start``

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A member that follows no earlier one is written without the keys for that."""
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
