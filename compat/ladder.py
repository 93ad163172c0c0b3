"""The fallback ladder: what a query does that its gallery's space does not admit.

A foreign new model, trained without a thought of the old one, cannot be compared with the gallery
that the old one made. What then may be done, and in which order, is measured and signed: (1) the
*adapter* maps the query into the gallery's space; (2) *dual* query: the model that ran before,
which a device keeps, embeds the photo too; (3) *cloud*: the photo is sent and the gallery's own
model embeds it, only with the user's consent; else the query is refused. A rung that its evidence
does not admit is no rung (docs/ladder.md, docs/adr/0021).
"""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from compat.errors import QueryRefusedError, UntrustedError
from compat.manifest import Blob, Digest
from compat.matrix import Fraction
from compat.space import EmbeddingSpace, Name
from compat.wire import Wire, canonical_json, read_wire

MAX_LADDER_BYTES = 2**18
RungKind = Literal["adapter", "dual", "cloud"]


class Rung(Wire):
    """One way to answer, and what it was measured to find: mAP with its 95% interval."""

    kind: RungKind
    cross: Fraction
    low: Fraction
    high: Fraction
    admitted: bool
    makes_query: tuple[Digest, ...] = Field(min_length=1)  # the adapter, or artifacts of a model
    adapter: Blob | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "adapter") != (self.adapter is not None):
            raise ValueError("an adapter rung, and no other, has an adapter")
        if self.adapter and self.makes_query != (self.adapter.digest,):
            raise ValueError("the query of an adapter rung is made by its adapter")
        return self


class Ladder(Wire):
    """The rungs from the artifacts of a member to the galleries of one space, in their order."""

    format: Literal[1] = 1
    family: Name
    member: Name
    artifacts: tuple[Digest, ...] = Field(min_length=1)  # which cannot query the gallery
    source: EmbeddingSpace  # of their embeddings
    target: EmbeddingSpace  # of the gallery
    gallery_model: Digest  # the cloud artifact that made its rows
    criterion: Fraction  # mAP of what was there before: M(old member, old gallery)
    queries: int = Field(ge=2)
    dataset_digest: Digest
    score_scale: float = Field(default=1.0, gt=0, le=1e3)
    score_shift: float = Field(default=0.0, ge=-1e3, le=1e3)
    rungs: tuple[Rung, ...] = Field(max_length=3)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for space in (self.source, self.target):
            if space.family != self.family:
                raise ValueError(f"space {space.id} is not of family {self.family}")
        if self.source == self.target:
            raise ValueError("there is no ladder within one space: the matrix decides there")
        kinds = [rung.kind for rung in self.rungs]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"a rung stands twice: {kinds}")
        return self

    def calibrated(self, score: float) -> float:
        """A ``score`` in the gallery of `target`, on the scale of a gallery of `source`."""
        return self.score_scale * score + self.score_shift

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, blob: bytes, *, artifact: str, source: str, target: str) -> Self:
        """Raises UntrustedError: no ladder that we know, or of another artifact or gallery."""
        found = read_wire(cls, blob, "a ladder")
        if artifact not in found.artifacts or (found.source.id, found.target.id) != (
            source,
            target,
        ):
            raise UntrustedError(
                f"the ladder of {artifact[:12]} from {source} to {target} says it is of "
                f"{found.member} from {found.source.id} to {found.target.id}"
            )
        return found


def ladder_target(source: EmbeddingSpace, member: str, target_space: str) -> str:
    """The name of the signed target; it moves, TUF refuses an older one."""
    from_space, into = (each.replace("/", "-") for each in (source.id, target_space))
    return f"{source.family}/ladders/{from_space}.{member}.{into}.json"


@dataclass(frozen=True)
class Means:
    """What a device can do beside its own model."""

    kept_artifacts: frozenset[str]  # of models that it still holds
    may_send_photo: bool


def climb(ladder: Ladder, means: Means) -> tuple[Rung, ...]:
    """The rungs that this device can take, in the signed order; never empty.

    Raises:
        QueryRefusedError: there are none; the message says why each is not.
    """
    taken, reasons = [], []
    for rung in ladder.rungs:
        if not rung.admitted:
            reasons.append(f"{rung.kind} finds too little ({rung.cross:.1%} mAP)")
        elif rung.kind == "dual" and not means.kept_artifacts.intersection(rung.makes_query):
            reasons.append("the model that ran before is not on this device any more")
        elif rung.kind == "cloud" and not means.may_send_photo:
            reasons.append("nobody allowed that the photo is sent (--send-photo)")
        else:
            taken.append(rung)
    if not taken:
        raise QueryRefusedError(
            f"{ladder.member} of {ladder.source.id} has no way to the gallery of "
            f"{ladder.target.id}: {'; '.join(reasons) or 'no rung was measured'}"
        )
    return tuple(taken)
