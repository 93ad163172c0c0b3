"""Search a gallery of another space: the rungs that the publisher measured and signed, in order.

A device meets such a gallery when a foreign new model was released and the gallery is not embedded
again yet. It fetches the ladder for its artifact and that gallery, takes the first rung that it can
(`compat.ladder.climb`), and goes on to the next one only when the service refuses that rung.
"""

from pathlib import Path
from typing import NamedTuple

from compat.adapter import MAX_ADAPTER_BYTES, Adapter
from compat.errors import OfflineError, QueryRefusedError, UntrustedError
from compat.images import read_image
from compat.ladder import Ladder, Means, Rung, climb
from compat.matrix import CompatibilityMatrix
from compat.preprocess import Floats
from edge.device import Active, Device
from edge.lock import exclusive
from edge.search import Answer, search_many, search_photo, space_of


class Climbed(NamedTuple):
    """An answer, the rung that gave it, and the ladder that this is one of."""

    rung: Rung
    answer: Answer
    ladder: Ladder


class Held(NamedTuple):
    """The signed ladder, its adapter where it has one, and the family's matrix as it is now."""

    ladder: Ladder
    adapter: Adapter | None
    matrix: CompatibilityMatrix | None


def search_by_ladder(
    device: Device, url: str, photo: Path, *, k: int = 10, may_send_photo: bool = False
) -> Climbed:
    """The ``k`` gallery items nearest to a photo, in a gallery that the active model cannot query.

    Raises:
        QueryRefusedError: no rung is there, none is possible here, or the service refused each.
        OfflineError: the service or the registry does not answer.
        UntrustedError: what one of them says must not be believed.
        UsageError: the photo cannot be read.
    """
    active = device.active()
    held = fetch_ladder(device, active, space_of(url))
    before = device.previous()
    kept = frozenset([before.artifact.digest] if before else [])
    reasons = []
    for rung in climb(held.ladder, Means(kept, may_send_photo)):
        try:
            answer = _take(rung, device, active, before, held, url, photo, k)
            return Climbed(rung, answer, held.ladder)
        except QueryRefusedError as error:
            reasons.append(f"{rung.kind}: {error}")
    raise QueryRefusedError(f"every rung was refused: {'; '.join(reasons)}")


def fetch_ladder(device: Device, active: Active, target_space: str) -> Held:
    """The ladder from what runs here to a gallery of ``target_space``, and its adapter.

    Raises:
        QueryRefusedError: nobody signed one. OfflineError, UntrustedError: see `RegistryClient`.
    """
    source = active.manifest.space
    with exclusive(device.home / ".lock", "an update"):
        client = device.client()
        ladder = client.ladder(
            source, active.member.name, artifact=active.artifact.digest, target=target_space
        )
        if ladder is None:
            raise QueryRefusedError(
                f"this device's embeddings are of {source.id}, the gallery is of {target_space}, "
                "and nobody signed a ladder between them: kinspace device update"
            )
        adapter = None
        for rung in ladder.rungs:
            if rung.adapter is not None and rung.admitted:
                blob = client.blob(ladder.family, rung.adapter, max_bytes=MAX_ADAPTER_BYTES)
                adapter = Adapter.from_bytes(blob)
                adapter.check_between(source=ladder.source, target=ladder.target)
        return Held(ladder, adapter, client.matrix(ladder.family))


def _take(
    rung: Rung,
    device: Device,
    active: Active,
    before: Active | None,
    held: Held,
    url: str,
    photo: Path,
    k: int,
) -> Answer:
    target = held.ladder.target.id
    if rung.kind == "cloud":
        return search_photo(url, read_image(photo), space_id=target, k=k)
    if rung.kind == "adapter":
        if held.adapter is None:
            raise UntrustedError("the ladder has an adapter rung without an adapter")
        embedding = _embedded(device, active, photo)
        query = held.adapter.apply(embedding, artifact_digest=active.artifact.digest)
        [digest] = rung.makes_query
    else:
        if before is None:
            raise OfflineError("the model that ran before is gone: search again")
        query, digest = _embedded(device, before, photo), before.artifact.digest
    return search_many(
        url,
        query,
        space_id=target,
        artifact_digest=digest,
        galleries=held.matrix.galleries_for(digest) if held.matrix else None,
        k=k,
    )


def _embedded(device: Device, of: Active, photo: Path) -> Floats:
    """(1, D)."""
    embedder = device.embedder(of)
    tensor = embedder.preprocess.tensor(read_image(photo), str(photo))  # (S, S, 3)
    return embedder.embed(tensor[None])
