"""What every section of a report is made of: frozen, strict, finite; a mean and its interval."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# Where a number comes from; what devices measured names its device class (`device_evidence`).
Provenance = Literal["measured here", "declared"]


class Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class Estimate(Part):
    """A mean over queries with its 95% interval, and what it was counted over."""

    value: float
    low: float
    high: float
    counted: int = Field(ge=0)  # queries with at least one relevant gallery item
    skipped: int = Field(ge=0)  # lone queries: undefined, never scored 0
