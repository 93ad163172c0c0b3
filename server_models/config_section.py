"""What the sections of a family's TOML share: strict, frozen, units in the names."""

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(Section):
    """Optimisation steps; the learning rate warms up over 5% of them and falls as a cosine."""

    steps: int = Field(gt=0)
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    save_every_steps: int = Field(default=100, gt=0)
