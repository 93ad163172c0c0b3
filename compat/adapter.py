"""A learned map from one embedding space into another: what a foreign model needs to be understood.

An adapter is a small file beside a model: numpy applies it, on the device as in the cloud. It says
whose embeddings it takes and whose it imitates, by digest, and how far off it expects to be for
each row. It is fitted by `compat.adapter_fit`, measured like a model and admitted by the matrix
like one (docs/ladder.md).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compat.embedding import unit_rows
from compat.errors import SpaceError, UntrustedError
from compat.manifest import Digest
from compat.preprocess import Floats
from compat.space import EmbeddingSpace
from compat.wire import canonical_json

MAX_ADAPTER_BYTES = 64 * 2**20
Kind = Literal["orthogonal", "affine", "residual"]
_LINEAR = ("weight", "bias", "doubt_weight", "doubt_bias")
_TENSORS: dict[Kind, tuple[str, ...]] = {
    "orthogonal": _LINEAR,
    "affine": _LINEAR,
    "residual": (*_LINEAR, "hidden_weight", "hidden_bias", "output_weight"),
}


class AdapterHeader(BaseModel):
    """What an adapter is between."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Kind
    source: EmbeddingSpace  # of the embeddings that it takes
    source_digests: tuple[Digest, ...] = Field(min_length=1, max_length=64)  # whose they are
    target: EmbeddingSpace  # of those that it gives
    target_digest: Digest  # of the artifact that it imitates
    pairs: Annotated[int, Field(ge=2)]  # images that it was fitted on


@dataclass(frozen=True)
class Adapter:
    """y = unit(x W + b [+ relu(x H + h) O]): (N, source dim) -> (N, target dim)."""

    header: AdapterHeader
    tensors: Mapping[str, Floats]

    def apply(self, rows: npt.NDArray[Any], *, artifact_digest: str) -> Floats:
        """Embeddings of ``artifact_digest`` as the target's model would have given them.

        (N, source dim) -> (N, target dim) float32, rows of L2 norm 1.

        Raises:
            SpaceError: they are not of an artifact, or a dimension, that this adapter takes.
            UsageError: a row is not finite, is zero, or becomes zero.
        """
        if artifact_digest not in self.header.source_digests:
            takes = ", ".join(each[:12] for each in self.header.source_digests)
            raise SpaceError(
                f"the adapter takes embeddings of {takes}, these are of {artifact_digest[:12]}"
            )
        return mapped_rows(self.tensors, self._checked(rows))

    def expected_error(self, rows: npt.NDArray[Any]) -> Floats:
        """1 - cosine to the target's model that is expected: (N, source dim) -> (N,), in [0, 2].

        Raises as `apply`.
        """
        unit = self._checked(rows)
        doubt = unit @ self.tensors["doubt_weight"] + self.tensors["doubt_bias"]  # (N, 1)
        expected: Floats = np.exp(np.minimum(doubt[:, 0], np.log(2.0))).astype(np.float32)
        return expected

    def _checked(self, rows: npt.NDArray[Any]) -> Floats:
        dim = self.header.source.dim
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise SpaceError(f"the adapter takes (N, {dim}) embeddings, got {rows.shape}")
        return unit_rows(rows, "embeddings to adapt")

    def to_bytes(self) -> bytes:
        """A safetensors file; the same adapter gives the same bytes."""
        head = canonical_json(self.header.model_dump(mode="json")).decode()
        tensors = {name: np.ascontiguousarray(each) for name, each in self.tensors.items()}
        return save(tensors, metadata={"adapter": head})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UntrustedError: these bytes are no adapter that is whole in itself."""
        if len(blob) > MAX_ADAPTER_BYTES:
            raise UntrustedError(f"an adapter of {len(blob)} bytes: at most {MAX_ADAPTER_BYTES}")
        try:
            tensors = load(blob)
            header = AdapterHeader.model_validate_json(_metadata(blob)["adapter"])
        except (SafetensorError, ValidationError, ValueError, KeyError, TypeError) as error:
            raise UntrustedError(f"not an adapter that this version reads: {error}") from error
        found = cls(header, MappingProxyType(tensors))
        if wrong := found._wrong():
            raise UntrustedError(f"the adapter is not what it says: {wrong}")
        return found

    def check_between(self, *, source: EmbeddingSpace, target: EmbeddingSpace) -> None:
        """Raises UntrustedError: it was offered for other spaces than it maps."""
        if (self.header.source, self.header.target) != (source, target):
            raise UntrustedError(
                f"the adapter maps {self.header.source.id} into {self.header.target.id}, it was "
                f"offered for {source.id} into {target.id}"
            )

    def _wrong(self) -> str | None:
        """What of the tensors belies the header."""
        names = set(_TENSORS[self.header.kind])
        if set(self.tensors) != names:
            return f"{self.header.kind} has {sorted(names)}, the file {sorted(self.tensors)}"
        into, out = self.header.source.dim, self.header.target.dim
        hidden = len(self.tensors["hidden_bias"]) if "hidden_bias" in self.tensors else 0
        shapes = {
            "weight": (into, out),
            "bias": (out,),
            "doubt_weight": (into, 1),
            "doubt_bias": (1,),
            "hidden_weight": (into, hidden),
            "hidden_bias": (hidden,),
            "output_weight": (hidden, out),
        }
        for name, tensor in self.tensors.items():
            if tensor.dtype != np.float32 or tensor.shape != shapes[name]:
                return f"{name} is {tensor.dtype} {tensor.shape}, expected float32 {shapes[name]}"
            if not np.isfinite(tensor).all():
                return f"{name} holds NaN or infinity"
        return None


def mapped_rows(tensors: Mapping[str, Floats], unit: Floats) -> Floats:
    """What an adapter's ``tensors`` make of (N, source dim) unit rows: (N, target dim)."""
    mapped = unit @ tensors["weight"] + tensors["bias"]  # (N, D)
    if "output_weight" in tensors:
        hidden = unit @ tensors["hidden_weight"] + tensors["hidden_bias"]  # (N, H)
        mapped = mapped + np.maximum(hidden, 0) @ tensors["output_weight"]
    return unit_rows(mapped, "adapted embeddings")


def _metadata(blob: bytes) -> dict[str, str]:
    """The header of a safetensors file that `load` has read: 8 bytes of length, then JSON."""
    length = int.from_bytes(blob[:8], "little")
    found = json.loads(blob[8 : 8 + length])["__metadata__"]
    return dict(found)
