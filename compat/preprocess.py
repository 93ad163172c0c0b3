"""The preprocessing recipe: part of the artifact, run alike by training, verification and device.

Everything that resizes or normalises differently from training moves embeddings more than
quantisation does, so a model is published together with its recipe, and this is the one
implementation of it (docs/adr/0002). Golden images prove it on each device.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from compat.images import decode

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_KERNELS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Triple = tuple[float, float, float]


class Preprocess(BaseModel):
    """decode -> orient -> RGB -> fit to a square -> resize -> normalise.

    The resize is Pillow's: fixed-point, antialiased (support grows with the scale), so equal on
    every platform. ``fit`` says what happens to an oblong image: ``squash`` changes its aspect,
    ``crop`` keeps the central square, ``pad`` adds white.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    size_px: int = Field(ge=8, le=1024)
    resize: Literal["box", "bilinear", "bicubic", "lanczos"] = "bicubic"
    fit: Literal["squash", "crop", "pad"] = "pad"
    mean: Triple = (0.5, 0.5, 0.5)  # of channels in [0, 1], red green blue
    std: Triple = (0.5, 0.5, 0.5)

    def fitted(self, image: Image.Image) -> Pixels:
        """RGB image of any size -> (S, S, 3) uint8, S = ``size_px``."""
        width, height = image.size
        if self.fit == "crop" and width != height:
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        elif self.fit == "pad" and width != height:
            side = max(width, height)
            paper = Image.new("RGB", (side, side), (255, 255, 255))
            paper.paste(image, ((side - width) // 2, (side - height) // 2))
            image = paper
        if image.size != (self.size_px, self.size_px):
            image = image.resize((self.size_px, self.size_px), _KERNELS[self.resize])
        return np.asarray(image, dtype=np.uint8)

    def pixels(self, blob: bytes, name: str = "image") -> Pixels:
        """Encoded image -> (S, S, 3) uint8. Raises ImageError, see `compat.images.decode`."""
        return self.fitted(decode(blob, name))

    def normalised(self, pixels: Pixels) -> Floats:
        """(..., S, S, 3) uint8 -> same shape float32, (p / 255 - mean) / std, channels last."""
        scale = (1.0 / (255.0 * np.asarray(self.std))).astype(np.float32)
        shift = (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        normal: Floats = pixels.astype(np.float32) * scale + shift
        return normal

    def tensor(self, blob: bytes, name: str = "image") -> Floats:
        """Encoded image -> (S, S, 3) float32, what the model's graph takes."""
        return self.normalised(self.pixels(blob, name))
