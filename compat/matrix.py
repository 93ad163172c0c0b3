"""The compatibility matrix: which artifact may query which gallery, by the evidence for each pair.

One signed document a family. A pair that was never measured has no entry, and without an admitted
entry nobody compares: not the device, not the search service. Entries name artifacts by digest, so
that one runtime and precision is admitted and the next is not (docs/matrix.md, docs/adr/0013).

A gallery generation is named by the release that first published the cloud model which made the
rows; a release that ships the same cloud model again makes no new generation.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from compat.errors import QueryRefusedError, UntrustedError, UsageError
from compat.manifest import Digest, Precision, Runtime, Version
from compat.space import Name
from compat.wire import Wire, canonical_json, read_wire

MAX_MATRIX_BYTES = 4 * 2**20
SpaceId = Annotated[str, Field(min_length=1, max_length=128)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Entry(Wire):
    """One measured pair: queries of one artifact, rows of one gallery generation."""

    member: Name
    artifact_digest: Digest
    runtime: Runtime
    precision: Precision
    space: SpaceId  # of the member's embeddings
    gallery_generation: Version
    gallery_model: Name
    gallery_digest: Digest  # of the cloud artifact that made the rows; they are stamped with it
    gallery_space: SpaceId
    admitted: bool  # the gate's verdict on this pair
    cross: Fraction  # M(query, gallery) in mAP
    criterion: Fraction | None = None  # what cross has to exceed: M(q, q), or M(old, old)
    score_scale: float = Field(default=1.0, gt=0, le=1e3)
    score_shift: float = Field(default=0.0, ge=-1e3, le=1e3)
    report_digest: Digest  # the evidence

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.admitted and self.space != self.gallery_space:
            raise ValueError(
                f"{self.label} of {self.space} is admitted to a gallery of {self.gallery_space}: "
                "embeddings of different spaces are never compared"
            )
        return self

    @property
    def key(self) -> tuple[str, str]:
        return self.artifact_digest, self.gallery_generation

    @property
    def label(self) -> str:
        return f"{self.member} {self.runtime}/{self.precision}"

    def calibrated(self, score: float) -> float:
        """The cosine ``score`` of this pair, on the scale of the reference pair M(g, g)."""
        return self.score_scale * score + self.score_shift


class CompatibilityMatrix(Wire):
    """All measured pairs of a family, one entry each, in one order."""

    format: Literal[1] = 1
    family: Name
    entries: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        digests: dict[str, str] = {}  # gallery generation -> cloud artifact
        for entry in self.entries:
            for space in (entry.space, entry.gallery_space):
                if space.partition("/")[0] != self.family:
                    raise ValueError(f"{entry.label} is of {space}, not of family {self.family}")
            if digests.setdefault(entry.gallery_generation, entry.gallery_digest) != (
                entry.gallery_digest
            ):
                raise ValueError(f"gallery {entry.gallery_generation} is of two cloud models")
        if len(set(digests.values())) != len(digests):
            raise ValueError("one cloud model makes two gallery generations")
        if len({entry.key for entry in self.entries}) != len(self.entries):
            raise ValueError("an artifact and a gallery have two entries")
        return self

    def find(self, *, artifact_digest: str, gallery: str) -> Entry | None:
        """What was measured of an artifact on the gallery generation, admitted or not."""
        key = (artifact_digest, gallery)
        return next((entry for entry in self.entries if entry.key == key), None)

    def allows(self, *, artifact_digest: str, gallery: str) -> Entry | None:
        """The entry that admits the artifact's queries to the gallery generation, if any."""
        entry = self.find(artifact_digest=artifact_digest, gallery=gallery)
        return entry if entry and entry.admitted else None

    def check(self, *, artifact_digest: str, gallery: str) -> Entry:
        """The entry that `allows`.

        Raises:
            QueryRefusedError: nobody measured this pair, or the gate refused it. Remedy: another
                artifact or gallery, which the message names.
        """
        entry = self.find(artifact_digest=artifact_digest, gallery=gallery)
        if entry and entry.admitted:
            return entry
        what = "it was never measured"
        if entry:
            what = f"mAP {entry.cross:.1%} was measured and the gate refused it"
        may = ", ".join(self.galleries_for(artifact_digest)) or "none"
        raise QueryRefusedError(
            f"artifact {artifact_digest[:12]} may not query gallery {gallery} of {self.family}: "
            f"{what}; galleries that it may query: {may}"
        )

    def galleries_for(self, artifact_digest: str) -> tuple[str, ...]:
        """The gallery generations that an artifact may query, the oldest first."""
        return tuple(
            entry.gallery_generation
            for entry in self.entries
            if entry.admitted and entry.artifact_digest == artifact_digest
        )

    def generation_of(self, gallery_digest: str) -> str | None:
        """The gallery generation whose rows the cloud artifact ``gallery_digest`` made."""
        return next(
            (
                each.gallery_generation
                for each in self.entries
                if each.gallery_digest == gallery_digest
            ),
            None,
        )

    def with_entries(self, entries: Iterable[Entry]) -> Self:
        """A matrix in which ``entries`` stand, instead of older ones for the same pairs.

        Raises:
            UsageError: together they contradict each other. Remedy: in the message.
        """
        merged = {entry.key: entry for entry in (*self.entries, *entries)}
        tree = self.model_dump(mode="json")
        tree["entries"] = [entry.model_dump(mode="json") for entry in _ordered(merged.values())]
        try:
            return type(self).model_validate(tree)
        except ValidationError as error:
            words = error.errors()[0]["msg"]
            raise UsageError(f"no matrix of {self.family} holds these pairs: {words}") from error

    def to_bytes(self) -> bytes:
        """Canonical JSON; the order of the entries is part of it."""
        tree = self.model_dump(mode="json")
        tree["entries"] = [entry.model_dump(mode="json") for entry in _ordered(self.entries)]
        return canonical_json(tree)

    @classmethod
    def from_bytes(cls, blob: bytes, *, family: str) -> Self:
        """Raises UntrustedError: no matrix that we know, or another family's."""
        found = read_wire(cls, blob, "a compatibility matrix")
        if found.family != family:
            raise UntrustedError(
                f"the compatibility matrix of {family} says it is {found.family}'s"
            )
        return found


def matrix_target(family: str) -> str:
    """The name of the signed target; it moves, TUF refuses an older one."""
    return f"{family}/matrix/pairs.json"


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    """By gallery, oldest first, then member, runtime, precision and digest."""

    def place(entry: Entry) -> tuple[tuple[int, ...], str, str, str, str]:
        numbers = tuple(map(int, entry.gallery_generation.split(".")))
        return numbers, entry.member, entry.runtime, entry.precision, entry.artifact_digest

    return sorted(entries, key=place)
