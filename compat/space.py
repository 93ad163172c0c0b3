"""Embedding spaces: which vectors may be compared with which (docs/adr/0001)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from compat.errors import SpaceError

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class EmbeddingSpace(BaseModel):
    """Vectors that may be compared with one another. Equal ``id`` <=> comparable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Name  # what was learned, e.g. "furniture"
    generation: int = Field(ge=1)  # +1 when galleries of the previous one stop being searchable
    dim: int = Field(ge=2, le=65536)
    score: Literal["cosine"] = "cosine"

    @property
    def id(self) -> str:
        """Every field that changes a score appears here."""
        return f"{self.family}/g{self.generation}/{self.dim}/{self.score}"


def check_same_space(*, query: str, gallery: str) -> None:
    """Refuse to compare embeddings whose space ids differ.

    Raises:
        SpaceError: the ids differ. Remedy: re-embed one side with a member of the other's space.
    """
    if query != gallery:
        raise SpaceError(
            f"query embeddings are of space {query}, gallery embeddings of space {gallery}: they "
            f"cannot be compared. Embed the query with a member of {gallery}, or search a gallery "
            f"of {query}."
        )
