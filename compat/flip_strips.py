"""Negative flips as pictures: the query, what the cloud found, what the phone found.

Drawn once, where the images are, and kept beside the report, so that the page can be made again
without them. The same images give the same bytes.
"""

import base64
import io

from PIL import Image, ImageOps
from pydantic import ValidationError

from compat.errors import CorruptError
from compat.evidence import EvidenceSet, LabelledImages
from compat.images import decode
from compat.manifest import Digest
from compat.report import ArtifactEvidence, Report
from compat.report_parts import Part
from compat.wire import canonical_json

MAX_STRIPS_BYTES = 4 * 2**20
_TILE_PX = 112
_JPEG_QUALITY = 85


class Tile(Part):
    """One image, small."""

    label: str
    is_relevant: bool
    jpeg: str  # base64


class FlipStrip(Part):
    """One query that the cloud model answers at rank 1 and the artifact does not."""

    query: Tile
    cloud: tuple[Tile, ...]  # best first
    member: tuple[Tile, ...]


class UpdateStrip(Part):
    """One query that the previous release answers at rank 1 and this one does not."""

    query: Tile
    before: tuple[Tile, ...]  # best first
    now: tuple[Tile, ...]


class UpdateStrips(Part):
    """Of one artifact, which may be another than that of the strips beside."""

    artifact: str
    digest: Digest
    strips: tuple[UpdateStrip, ...]


class FlipStrips(Part):
    """Of one artifact."""

    artifact: str
    digest: Digest
    dataset_digest: Digest
    strips: tuple[FlipStrip, ...]
    update: UpdateStrips | None = None

    def shows(self, report: Report) -> bool:
        """Whether they are of an admitted artifact of ``report``, on what it was measured on."""
        admitted = {each.digest for each in report.admitted}
        if not (self.digest in admitted and report.evidence.dataset_digest == self.dataset_digest):
            return False
        worst = worst_updated(report)
        return (self.update and self.update.digest) == (worst and worst.digest)

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "FlipStrips":
        """Raises CorruptError when they are no strips. Remedy: verify again."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise CorruptError(f"the strips of flips are damaged: {error}") from error


def worst_admitted(report: Report) -> ArtifactEvidence | None:
    """The admitted artifact that loses most of the cloud's right answers; None: none loses any."""
    with_flips = [each for each in report.admitted if each.flips.examples]
    return max(with_flips, key=lambda each: (each.flips.flips, each.label), default=None)


def worst_updated(report: Report) -> ArtifactEvidence | None:
    """The admitted artifact that loses most of the previous release's right answers."""
    lost = [
        (each.previous.flips_at_1.flips, each.label, each)
        for each in report.admitted
        if each.previous and each.previous.examples
    ]
    return max(lost, key=lambda found: found[:2])[2] if lost else None


def draw_strips(report: Report, evidence: EvidenceSet) -> FlipStrips | None:
    """Strips of `worst_admitted`; ``evidence`` is what the report was measured on.

    Raises:
        ImageError: an image cannot be used; the message names it.
    """
    worst = worst_admitted(report)
    if worst is None:
        return None
    strips = []
    for each in worst.flips.examples:
        asked = evidence.queries.labels[each.query]
        strips.append(
            FlipStrip(
                query=_tile(evidence.queries, each.query, asked),
                cloud=tuple(_tile(evidence.gallery, row, asked) for row in each.cloud),
                member=tuple(_tile(evidence.gallery, row, asked) for row in each.member),
            )
        )
    return FlipStrips(
        artifact=worst.label,
        digest=worst.digest,
        dataset_digest=evidence.dataset_digest,
        strips=tuple(strips),
        update=_draw_update(report, evidence),
    )


def _draw_update(report: Report, evidence: EvidenceSet) -> UpdateStrips | None:
    worst = worst_updated(report)
    if worst is None or worst.previous is None:
        return None
    strips = []
    for each in worst.previous.examples:
        asked = evidence.queries.labels[each.query]
        strips.append(
            UpdateStrip(
                query=_tile(evidence.queries, each.query, asked),
                before=tuple(_tile(evidence.gallery, row, asked) for row in each.before),
                now=tuple(_tile(evidence.gallery, row, asked) for row in each.now),
            )
        )
    return UpdateStrips(artifact=worst.label, digest=worst.digest, strips=tuple(strips))


def _tile(side: LabelledImages, row: int, asked: str) -> Tile:
    picture = ImageOps.pad(
        decode(side.images[row], side.names[row]),
        (_TILE_PX, _TILE_PX),
        method=Image.Resampling.BOX,
        color="#ffffff",
    )
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=_JPEG_QUALITY)
    return Tile(
        label=side.labels[row],
        is_relevant=side.labels[row] == asked,
        jpeg=base64.b64encode(target.getvalue()).decode(),
    )
