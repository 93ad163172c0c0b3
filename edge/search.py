"""Ask the search service: an embedding goes out, never the photo; hits come back, checked.

The question names the gallery generations that the signed matrix admits the artifact to: a service
leaves out rows of others, and an answer from another is not believed. The answer is bounded in
bytes and in time, and believed only as far as it fits the question: same space, one list a vector,
at most ``k`` hits, scores in falling order.
"""

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compat.embedding import check_embeddings
from compat.errors import OfflineError, QueryRefusedError, UntrustedError, UsageError

MAX_RESPONSE_BYTES = 8 * 2**20
MAX_VECTORS = 64
MAX_K = 100
MAX_WORDS = 500  # of a server's refusal that are shown

_BUSY = frozenset((429, 500, 502, 503, 504))
_Text = Annotated[str, Field(max_length=2048)]


class _Part(BaseModel):
    """A newer service may say more: what is not known is left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Hit(_Part):
    """A gallery item that was found; ``score`` is in [-1, 1], higher is closer."""

    id: _Text
    label: _Text
    path: _Text
    score: float = Field(ge=-1, le=1, allow_inf_nan=False)
    generation: _Text | None = None  # of the row; None: the service knows of no matrix


class _Space(_Part):
    space: _Text


class Answer(_Part):
    """What a service found, and how much of its gallery it did not compare."""

    space: _Text
    galleries: tuple[_Text, ...] | None = None  # generations; None: it knows of no matrix
    left_out: int = Field(default=0, ge=0)  # rows that the artifact is not admitted to
    results: tuple[tuple[Hit, ...], ...] = Field(max_length=MAX_VECTORS)


def search(
    url: str,
    embedding: npt.NDArray[Any],
    *,
    space_id: str,
    artifact_digest: str,
    galleries: Sequence[str] | None = None,
    k: int = 10,
    timeout_s: float = 10.0,
) -> tuple[Hit, ...]:
    """The ``k`` gallery items nearest to one embedding (D,), best first. See `search_many`."""
    (hits,) = search_many(
        url,
        embedding[None],
        space_id=space_id,
        artifact_digest=artifact_digest,
        galleries=galleries,
        k=k,
        timeout_s=timeout_s,
    ).results
    return hits


def search_many(
    url: str,
    embeddings: npt.NDArray[Any],
    *,
    space_id: str,
    artifact_digest: str,
    galleries: Sequence[str] | None = None,
    k: int = 10,
    timeout_s: float = 10.0,
) -> Answer:
    """For each embedding the ``k`` nearest gallery items: (N, D), N <= 64 -> N x at most k.

    Args:
        url: of the search service, such as ``http://host:8000``.
        embeddings: made by the artifact of ``artifact_digest``.
        space_id: what they are of.
        artifact_digest: sha256 of the artifact that made them.
        galleries: generations that it may query, see `edge.device.Device.galleries`; None where
            the registry has no matrix.
        k: how many hits a vector, 1 to 100.
        timeout_s: for each wait, and for the whole body.

    Raises:
        OfflineError: no answer in time. Keep what runs, try later.
        QueryRefusedError: the artifact may query no gallery, and nothing was sent; or the service
            will not compare, and the message is its own, with the cure.
        UntrustedError: an answer came that does not fit the question. Alert.
        UsageError: the question is wrong: url, k, shape, or as the service says.
    """
    check_embeddings(query=embeddings)
    if galleries is not None and not galleries:
        raise QueryRefusedError(
            f"the family's matrix admits artifact {artifact_digest[:12]} to no gallery: "
            "kinspace device update"
        )
    if not 1 <= len(embeddings) <= MAX_VECTORS:
        raise UsageError(f"{len(embeddings)} embeddings: search with 1 to {MAX_VECTORS} at once")
    if not 1 <= k <= MAX_K:
        raise UsageError(f"k is {k}: ask for 1 to {MAX_K}")
    vectors = np.asarray(embeddings, dtype=np.float32).tolist()
    question = {"space": space_id, "artifact": artifact_digest, "vectors": vectors, "k": k}
    if galleries is not None:
        question["galleries"] = list(galleries)
    status, body = _post(f"{url.rstrip('/')}/v1/search", question, timeout_s)
    return read_answer(
        status, body, space_id=space_id, galleries=galleries, n_queries=len(embeddings), k=k
    )


def search_photo(
    url: str, photo: bytes, *, space_id: str, k: int = 10, timeout_s: float = 30.0
) -> Answer:
    """The ``k`` items nearest to a photo that the service embeds: **the photo leaves the device**.

    Only for a user who allowed it, see `compat.ladder`. Raises as `search_many`.
    """
    if not 1 <= k <= MAX_K:
        raise UsageError(f"k is {k}: ask for 1 to {MAX_K}")
    status, body = _post(f"{url.rstrip('/')}/v1/search-photo?k={k}", photo, timeout_s)
    return read_answer(status, body, space_id=space_id, n_queries=1, k=k)


def space_of(url: str, timeout_s: float = 10.0) -> str:
    """Id of the space that the service's gallery is of. Raises as `search_many`."""
    status, body = _send("GET", f"{url.rstrip('/')}/v1/space", None, timeout_s)
    if status in _BUSY:
        raise OfflineError(f"the search service cannot answer now ({status}): {_words(body)}")
    try:
        return _Space.model_validate_json(body).space
    except ValidationError as error:
        raise UntrustedError(
            f"the search service answered {status} and does not say which space it is of"
        ) from error


def read_answer(
    status: int,
    body: bytes,
    *,
    space_id: str,
    galleries: Sequence[str] | None = None,
    n_queries: int,
    k: int,
) -> Answer:
    """What an HTTP answer means; no network in here. Raises as `search_many`."""
    if status == 409:
        raise QueryRefusedError(f"the search service refuses this query: {_words(body)}")
    if status in _BUSY:
        raise OfflineError(f"the search service cannot answer now ({status}): {_words(body)}")
    if 400 <= status < 500:
        raise UsageError(f"the search service cannot read this query ({status}): {_words(body)}")
    if status != 200:
        raise UntrustedError(f"the search service answered {status}, which no search service does")
    try:
        answer = Answer.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise UntrustedError(
            f"the search service answered something else than results ({first['msg']} at "
            f"{'.'.join(str(part) for part in first['loc']) or 'the top'})"
        ) from error
    if answer.space != space_id:
        raise UntrustedError(
            f"asked in space {space_id}, answered from space {_plain(answer.space)}: "
            "these scores mean nothing"
        )
    if galleries is not None and (strange := _strange(answer, galleries)):
        raise UntrustedError(
            f"asked galleries {', '.join(galleries)}, answered from {_plain(strange)}: nobody "
            "admitted this pair"
        )
    if len(answer.results) != n_queries:
        raise UntrustedError(f"asked {n_queries} queries, got {len(answer.results)} answers")
    for hits in answer.results:
        scores = [hit.score for hit in hits]
        if len(hits) > k or scores != sorted(scores, reverse=True):
            raise UntrustedError(f"the search service's hits are not the {k} best in order")
    return answer


def _strange(answer: Answer, galleries: Sequence[str]) -> str | None:
    """A generation that was answered from and not asked for."""
    named = answer.galleries or ("one that is not named",)
    of_rows = [hit.generation or "one that is not named" for hits in answer.results for hit in hits]
    return next((each for each in (*named, *of_rows) if each not in galleries), None)


def _post(url: str, question: object, timeout_s: float) -> tuple[int, bytes]:
    return _send("POST", url, question, timeout_s)


def _send(method: str, url: str, question: object, timeout_s: float) -> tuple[int, bytes]:
    """Status and body; a slow drip is cut off at ``timeout_s`` like silence.

    ``question``: bytes are sent as they are, None is no body, anything else is JSON.
    """
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    headers = {"Accept-Encoding": "identity"}  # no compressed answer, so no bomb in one
    sent: dict[str, Any] = {} if question is None else {"json": question}
    if isinstance(question, bytes):
        sent = {"content": question}
        headers["Content-Type"] = "application/octet-stream"
    try:
        with (
            httpx.Client(timeout=timeout_s) as client,
            client.stream(method, url, headers=headers, **sent) as response,
        ):
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise UntrustedError(f"{url} answered more than {MAX_RESPONSE_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise OfflineError(f"{url} did not finish within {timeout_s:g} s: try later")
            return response.status_code, bytes(body)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise UsageError(f"{url} is no URL of a search service: http://host:port") from error
    except httpx.HTTPError as error:
        raise OfflineError(f"no answer from {url} ({error}): try later") from error


def _words(body: bytes) -> str:
    """A refusal's error and cure, or whatever else it holds, fit to be shown in a terminal."""
    try:
        tree = json.loads(body)
        said = f"{tree['error']}. To cure it: {tree['cure']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        said = body[: 4 * MAX_WORDS].decode("utf-8", errors="replace")
    return _plain(said)


def _plain(said: str) -> str:
    """Printable characters only, at most `MAX_WORDS`: a server does not steer our terminal."""
    return "".join(c if c.isprintable() else " " for c in said[:MAX_WORDS]).strip() or "no words"
