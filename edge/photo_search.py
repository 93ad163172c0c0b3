"""Search by a photo: embedded here, each gallery asked by the way that is signed, hits merged.

While the gallery of a foreign new model fills, the old one still holds the rest. Asked for both, a
device embeds the photo by the model that runs now for the one and by the signed ladder for the
other: by the model that ran before (dual query), or by an adapter, in the signed order. Their
scores are brought onto one scale, which the ladder carries, and an item of both counts once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from compat.errors import QueryRefusedError, UsageError
from compat.images import read_image
from compat.ladder import Rung
from compat.preprocess import Floats
from edge.device import Active, Device
from edge.ladder import search_by_ladder
from edge.search import Answer, Hit, search_many


class Found(NamedTuple):
    """The best of all galleries, on the scale of the active model's own."""

    hits: tuple[Hit, ...]
    left_out: int  # rows that were not compared
    rungs: tuple[Rung, ...]  # taken where the active model may not ask


class _Reached(NamedTuple):
    """What one service answered, each hit with its score on the common scale."""

    answer: Answer
    rung: Rung | None
    scored: tuple[tuple[float, Hit], ...]


def search_by_photo(
    device: Device, urls: Sequence[str], photo: Path, *, k: int = 10, may_send_photo: bool = False
) -> Found:
    """The ``k`` items nearest to a photo in the galleries of the services ``urls``.

    Raises:
        QueryRefusedError: a service has no gallery that this device may ask, ladder or not.
        OfflineError, UntrustedError, UsageError: see `edge.search.search_many`. An answer of some
            of the galleries only is none: leave out the service that does not answer.
    """
    if not urls:
        raise UsageError("name at least one search service")
    active, embedder = device.active(), device.embedder()
    tensor = embedder.preprocess.tensor(read_image(photo), str(photo))  # (S, S, 3)
    query = embedder.embed(tensor[None])  # (1, D)
    reached = [_reach(device, active, query, url, photo, k, may_send_photo) for url in urls]
    return Found(
        hits=tuple(_merged([each.scored for each in reached])[:k]),
        left_out=sum(each.answer.left_out for each in reached),
        rungs=tuple(each.rung for each in reached if each.rung),
    )


def _reach(
    device: Device,
    active: Active,
    query: Floats,
    url: str,
    photo: Path,
    k: int,
    may_send_photo: bool,
) -> _Reached:
    """Ask as the active artifact; where that is refused, by the ladder."""
    try:
        answer = search_many(
            url,
            query,
            space_id=active.manifest.space.id,
            artifact_digest=active.artifact.digest,
            galleries=device.galleries(),
            k=k,
        )
    except QueryRefusedError as refused:
        try:
            climbed = search_by_ladder(device, url, photo, k=k, may_send_photo=may_send_photo)
        except QueryRefusedError as error:
            raise QueryRefusedError(f"{refused}. The ladder: {error}") from error
        [hits] = climbed.answer.results
        scored = tuple((climbed.ladder.calibrated(hit.score), hit) for hit in hits)
        return _Reached(climbed.answer, climbed.rung, scored)
    [hits] = answer.results
    return _Reached(answer, None, tuple((hit.score, hit) for hit in hits))


def _merged(lists: Sequence[Sequence[tuple[float, Hit]]]) -> list[Hit]:
    """Best first, ties by id; an item that several found stands once, at its best score."""
    best: dict[str, Hit] = {}
    every = [each for found in lists for each in found]
    for score, hit in sorted(every, key=lambda each: (-each[0], each[1].id)):
        shown = hit.model_copy(update={"score": min(1.0, max(-1.0, score))})
        best.setdefault(hit.id, shown)
    return list(best.values())
