"""The gallery model in a family's TOML: trained here, an ONNX file, or a table of vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from compat.preprocess import Preprocess
from compat.space import Name
from server_models.architecture import Architecture
from server_models.config_section import Schedule, Section

LiteBackbone = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
EdgeBackbone = Literal["kin-s", "kin-w", "kin-m"]
ResidualBackbone = Literal["resnet18-w32"]


class CloudConfig(Section):
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


class GivenCloud(Section):
    """A gallery model that somebody else trained: only its outputs are known."""

    name: Name = "cloud"
    scale: float = Field(default=20.0, gt=0)  # of the cosines in a softmax, for terms that use one

    @property
    def file(self) -> Path:
        raise NotImplementedError

    def placed(self, beside: Callable[[Path], Path]) -> Self:
        """The same with its file found from the TOML."""
        raise NotImplementedError


class OnnxCloud(GivenCloud):
    """Only an ONNX file: one image in, one embedding out."""

    onnx: Path
    preprocess: Preprocess
    macs: int = Field(gt=0)  # of one image, as its maker states them

    @property
    def file(self) -> Path:
        return self.onnx

    def placed(self, beside: Callable[[Path], Path]) -> Self:
        return self.model_copy(update={"onnx": beside(self.onnx)})


class TableCloud(GivenCloud):
    """Only what it said: a Parquet table with the columns path and vector."""

    vectors: Path

    @property
    def file(self) -> Path:
        return self.vectors

    def placed(self, beside: Callable[[Path], Path]) -> Self:
        return self.model_copy(update={"vectors": beside(self.vectors)})


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
KINDS_OF_CLOUD = ("CloudConfig", *(kind.__name__ for kind in _GIVEN.values()))
