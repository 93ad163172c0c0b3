"""An edge network by its numbers, and the space of such networks that a search looks through."""

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

STRIDES = (2, 2, 2, 1)  # of the stages; the stem strides before them


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Layer(_Value):
    """One inverted residual: expand, filter each channel, project."""

    expand: int = Field(ge=1, le=8)
    channels: int = Field(ge=4)
    kernel: int = Field(default=3, ge=3, le=7)
    stride: int = Field(default=1, ge=1, le=2)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernels are odd, got {self.kernel}")
        return self


class Architecture(_Value):
    """A whole network; ``size_px`` is the side of the images that it was chosen for."""

    stem: int = Field(default=8, ge=4)
    layers: tuple[Layer, ...] = Field(min_length=1)
    features: int = Field(default=512, ge=8)  # width of the feature vector
    features_of: Literal["pool", "map"] = "pool"  # made after pooling: cheap; before: generalises
    size_px: int = Field(ge=16)


class SearchSpace(_Value):
    """What may be chosen: a depth and a width for each stage, a kernel and an expansion a layer."""

    sizes_px: tuple[int, ...] = (48, 56, 64)
    widths: tuple[tuple[int, ...], ...] = ((8, 12, 16), (16, 20, 28), (28, 40, 56), (40, 56, 80))
    depths: tuple[int, ...] = (1, 2, 3)
    kernels: tuple[int, ...] = (3, 5, 7)
    expands: tuple[int, ...] = (2, 3, 4, 6)
    stem: int = 8
    features: int = 512

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.widths) != len(STRIDES):
            raise ValueError(f"give a choice of widths for each of the {len(STRIDES)} stages")
        if any(kernel % 2 == 0 or not 3 <= kernel <= 7 for kernel in self.kernels):
            raise ValueError(f"kernels are 3, 5 or 7, got {list(self.kernels)}")
        choices = (self.sizes_px, *self.widths, self.depths, self.kernels, self.expands)
        if not all(choices) or any(list(each) != sorted(set(each)) for each in choices):
            raise ValueError("every list of choices ascends and has at least one entry")
        return self

    @property
    def choices(self) -> dict[str, tuple[int, ...]]:
        """Every decision by name, in a fixed order; layers beyond a stage's depth are ignored."""
        named: dict[str, tuple[int, ...]] = {"size_px": self.sizes_px}
        for stage, widths in enumerate(self.widths):
            named[f"stage{stage}.channels"] = widths
            named[f"stage{stage}.depth"] = self.depths
            for layer in range(self.depths[-1]):
                named[f"stage{stage}.layer{layer}.kernel"] = self.kernels
                named[f"stage{stage}.layer{layer}.expand"] = self.expands
        return named

    def build(self, decisions: dict[str, int]) -> Architecture:
        """The network that ``decisions`` (a value for each of `choices`) describe."""
        layers = []
        for stage, stride in enumerate(STRIDES):
            for layer in range(decisions[f"stage{stage}.depth"]):
                layers.append(
                    Layer(
                        channels=decisions[f"stage{stage}.channels"],
                        kernel=decisions[f"stage{stage}.layer{layer}.kernel"],
                        expand=decisions[f"stage{stage}.layer{layer}.expand"],
                        stride=stride if layer == 0 else 1,
                    )
                )
        return Architecture(
            stem=self.stem,
            layers=tuple(layers),
            features=self.features,
            size_px=decisions["size_px"],
        )

    def draw(self, rng: np.random.Generator) -> dict[str, int]:
        """Uniform over every decision."""
        return {name: int(rng.choice(values)) for name, values in self.choices.items()}

    def largest(self) -> dict[str, int]:
        return {name: values[-1] for name, values in self.choices.items()}
