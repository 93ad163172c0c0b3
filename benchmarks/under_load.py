"""Search without a pause while something happens to the gallery, and write down each answer.

`watch` searches `kinspace serve` from one thread for each querying artifact; `Watched` says whether
a request failed and whether an answer held a row that the matrix does not admit to its artifact.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from compat.matrix import CompatibilityMatrix
from compat.preprocess import Floats

REFUSED = 409
QUERIES_AT_ONCE = 32  # of the service's 64


@dataclass(frozen=True)
class Searcher:
    """One artifact's queries: (Q, D) and the label that each looks for."""

    name: str
    artifact_digest: str
    embeddings: Floats
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Observation:
    """One pass of a searcher's queries: what came back."""

    at_s: float
    searcher: str
    status: int  # 200, `REFUSED`, another = failed; 0: no answer
    hit_rate_at_10: float | None = None
    left_out: int = 0
    generations: frozenset[str] = frozenset()  # of the rows that were answered


@dataclass
class Watched:
    """Everything that was seen, in order."""

    began: float = field(default_factory=time.monotonic)
    seen: list[Observation] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, event: str) -> None:
        self.events.append((time.monotonic() - self.began, event))

    @property
    def failed(self) -> list[Observation]:
        return [each for each in self.seen if each.status not in (200, REFUSED)]

    def forbidden(
        self, matrix: CompatibilityMatrix, searchers: Sequence[Searcher]
    ) -> list[Observation]:
        """Answers with a row of a generation that the matrix does not admit."""
        digests = {each.name: each.artifact_digest for each in searchers}
        return [
            each
            for each in self.seen
            for generation in each.generations
            if not matrix.allows(artifact_digest=digests[each.searcher], gallery=generation)
        ]

    def of(self, searcher: str) -> list[Observation]:
        return [each for each in self.seen if each.searcher == searcher]


@contextlib.contextmanager
def watch(url: str, space_id: str, searchers: Sequence[Searcher]) -> Iterator[Watched]:
    """Search until the block ends."""
    watched, over = Watched(), threading.Event()

    def run(searcher: Searcher) -> None:
        with httpx.Client(timeout=30) as client:
            while not over.is_set():
                watched.seen.append(_pass(client, url, space_id, searcher, watched.began))

    threads = [threading.Thread(target=run, args=(each,)) for each in searchers]
    for thread in threads:
        thread.start()
    try:
        yield watched
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _pass(
    client: httpx.Client, url: str, space_id: str, searcher: Searcher, began: float
) -> Observation:
    """All queries of a searcher once."""
    found, left_out, generations = [], 0, set()
    for start in range(0, len(searcher.labels), QUERIES_AT_ONCE):
        question = {
            "space": space_id,
            "artifact": searcher.artifact_digest,
            "vectors": searcher.embeddings[start : start + QUERIES_AT_ONCE].tolist(),
            "k": 10,
        }
        try:
            response = client.post(f"{url}/v1/search", json=question)
        except httpx.HTTPError:
            return Observation(time.monotonic() - began, searcher.name, 0)
        if response.status_code != httpx.codes.OK:
            at = time.monotonic() - began
            return Observation(at, searcher.name, response.status_code)
        answer: Mapping[str, list[list[dict[str, str]]]] = json.loads(response.content)
        left_out = max(left_out, int(str(answer["left_out"])))
        for row, hits in enumerate(answer["results"], start=start):
            found.append(any(hit["label"] == searcher.labels[row] for hit in hits))
            generations |= {hit["generation"] for hit in hits}
    return Observation(
        time.monotonic() - began,
        searcher.name,
        response.status_code,
        sum(found) / len(found),
        left_out,
        frozenset(generations),
    )
