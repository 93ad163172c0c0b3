"""The report's section on the chain: where a difference enters, which layers lose most, and why."""

from typing import Literal

from pydantic import Field

from compat.report_parts import Part

Measure = Literal["levels", "cosine distance"]  # levels: of 255, in pixels; both 0 = equal


class StageDifference(Part):
    """One stage against the stage before it, on the same images."""

    stage: str  # e.g. "tensor", "edge-s litert/int8", "index"
    against: str  # the stage that it should repeat
    measure: Measure
    difference: float = Field(ge=0)  # mean over images
    worst: float = Field(ge=0)  # largest over images
    tolerance: float = Field(ge=0)  # of the mean
    share: float | None  # of the embedding error along its chain; None when not in cosines

    @property
    def exceeds(self) -> bool:
        return self.difference > self.tolerance


class Cause(Part):
    """A hypothesis that was tried for real: applied to the reference, how much it explains."""

    name: str
    cure: str
    unexplained_before: float = Field(ge=0)  # difference of suspect and reference
    unexplained_after: float = Field(ge=0)  # the same, with the hypothesis applied
    explains: bool  # after is within tolerance, or less than a tenth of before


class LayerNoise(Part):
    """A layer's output, quantised against float: power of the signal over power of the noise."""

    layer: str
    sqnr_db: float  # lower is worse; 20 dB = noise a tenth of the signal
    local_sqnr_db: float | None  # of its own rounding and clipping alone, its input being exact
    clipped: float | None = None  # share of float values outside the calibrated range


class QuantisedLayers(Part):
    """Per-layer SQNR of one int8 artifact on real images, worst first."""

    artifact: str
    measured: int = Field(ge=0)  # layers
    output_sqnr_db: float
    worst: tuple[LayerNoise, ...]
    suggestion: str


class DiagnosisSection(Part):
    """What `kinspace diagnose` found; empty ``first`` = every stage is within tolerance."""

    images: int = Field(ge=1)
    stages: tuple[StageDifference, ...]
    first: str | None  # stage whose difference exceeds its tolerance, earliest in the chain
    causes: tuple[Cause, ...] = ()  # tried, best first
    layers: tuple[QuantisedLayers, ...] = ()
    suggestion: str
