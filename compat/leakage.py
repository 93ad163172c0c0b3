"""Leakage: pictures that stand where they must not, in training and in the test, or on both sides.

A copy need not be the same bytes: re-encoded or rescaled it is the same picture, and a model that
has seen it, or that finds it beside itself, is flattered. Pictures are compared as a viewer who
squints would: 16 x 16 pixels, RGB. Two that differ by at most `MAX_LEVELS` are one picture: JPEG at
quality 40 moves such a thumbnail by less than 3 levels, other photographs of one object by tens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from compat.errors import DataError
from compat.files import digest_of
from compat.images import decode
from compat.preprocess import Floats
from compat.scores import match

THUMBNAIL_PX = 16
MAX_LEVELS = 3.0  # of 255, root mean square over a thumbnail
MAX_SHARE = 0.01  # more repeated pictures could move a rate by a point
BLOCK_VALUES = 2**24  # distances held at once: 64 MiB


@dataclass(frozen=True)
class Pictures:
    """N images as names, digests of their bytes, and (N, 768) thumbnails in 0..255."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    thumbnails: Floats

    @classmethod
    def of(cls, images: Iterable[tuple[str, bytes]]) -> "Pictures":
        """From (name, encoded image). Raises ImageError naming one that cannot be used."""
        names, digests, rows = [], [], [np.empty((0, THUMBNAIL_PX**2 * 3), np.float32)]
        for name, blob in images:
            names.append(name)
            digests.append(digest_of(blob))
            rows.append(thumbnail(decode(blob, name))[None])
        return cls(tuple(names), tuple(digests), np.concatenate(rows))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Repeat:
    """One picture that stands in two places."""

    name: str
    other: str
    same_bytes: bool


def thumbnail(image: Image.Image) -> Floats:
    """RGB image of any size -> (768,) float32 in 0..255."""
    small = image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def find_repeats(held: Pictures, others: Pictures) -> tuple[Repeat, ...]:
    """Each picture of ``held`` that stands in ``others``: as equal bytes, as a copy, or as both."""
    found: list[Repeat] = []
    if not len(held) or not len(others):
        return ()
    twins = match(held.digests, others.digests)
    squares = np.square(others.thumbnails).sum(axis=1)  # (M,)
    step = max(1, BLOCK_VALUES // len(others))
    for start in range(0, len(held), step):
        block = held.thumbnails[start : start + step]
        distances = squares - 2 * block @ others.thumbnails.T  # (B, M), short of |block|^2
        for row, to_others in enumerate(distances, start):
            same = twins.of(row)
            if len(same):
                found.append(Repeat(held.names[row], others.names[same[0]], same_bytes=True))
            to_others[same] = np.inf
            copy = int(to_others.argmin())
            levels = _levels(held.thumbnails[row], others.thumbnails[copy])
            if levels <= MAX_LEVELS and held.digests[row] != others.digests[copy]:
                found.append(Repeat(held.names[row], others.names[copy], same_bytes=False))
    return tuple(found)


def _levels(a: Floats, b: Floats) -> float:
    """Root mean square difference of two thumbnails, levels of 255."""
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b))))


def judge_leakage(
    *, trained: Sequence[Repeat], held_out: int, both_sides: Sequence[Repeat], queries: int
) -> tuple[str, ...]:
    """What must be said of a test set, in words; empty when it is clean.

    Args:
        trained: of ``held_out`` pictures of the test split, those that were trained on.
        both_sides: of ``queries``, those whose own picture stands in the gallery. Equal bytes are
            taken out of that query's ranking (`compat.scores.relevance`), copies are not.

    Raises:
        DataError: so many that the numbers would flatter. Remedy: remove the pictures named.
    """
    copies = [each for each in both_sides if not each.same_bytes]
    same = [each for each in both_sides if each.same_bytes]
    words = [
        _words(trained, held_out, "test pictures stand in training too"),
        _words(copies, queries, "queries stand in the gallery too, encoded anew"),
    ]
    flattering = (len(trained) / max(1, held_out), len(copies) / max(1, queries))
    refused = [each for each, share in zip(words, flattering, strict=True) if share > MAX_SHARE]
    if refused:
        raise DataError(
            f"{'; '.join(refused)}: the numbers would flatter, remove them from one of the two"
        )
    words.append(
        _words(same, queries, "queries stand in the gallery byte for byte, taken out there")
    )
    return tuple(each for each in words if each)


def _words(repeats: Sequence[Repeat], total: int, what: str) -> str:
    if not repeats:
        return ""
    first = repeats[0]
    return f"{len(repeats)} of {total} {what} ({first.name} is {first.other})"
