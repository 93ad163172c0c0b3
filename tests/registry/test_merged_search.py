"""A gallery half way between two generations whose scores mean different things."""

import math

import numpy as np
import pytest

from compat.calibration import calibration, log_odds
from compat.scores import relevance
from compat.space import EmbeddingSpace
from registry.gallery import Gallery, GalleryRow, Searchable, build
from registry.gallery_life import replace_rows

SPACE = EmbeddingSpace(family="furniture", generation=1, dim=32)
OLD, NEW = "a" * 64, "b" * 64
LABELS = [f"c{row % 20}" for row in range(120)]
RELEVANT = relevance(LABELS, LABELS)


def sides(seed, *, noise=0.15, lift=0.0):
    """(120, 32) embeddings of 20 classes; ``lift`` pulls all of them into one direction."""
    centres = np.random.default_rng(0).normal(size=(20, 32)) / math.sqrt(32)
    rng = np.random.default_rng(seed)
    rows = centres[np.arange(120) % 20] + noise * rng.normal(size=(120, 32))
    rows[:, 0] += lift
    return rows.astype(np.float32)


@pytest.mark.parametrize("lift", [1.0, 2.0])
def test_merged_search_finds_at_least_what_each_side_finds_alone(tmp_path, lift):
    """Strangers among the old rows look more alike than finds among the new. Fitted on others."""
    halves = {OLD: sides(2, lift=lift, noise=0.2), NEW: sides(3)}
    odds = {each: log_odds(sides(1, lift=2.0), rows, RELEVANT) for each, rows in halves.items()}

    items = [GalleryRow(f"{row:03d}", f"{row}.png", label) for row, label in enumerate(LABELS)]
    build(tmp_path, sides(12, lift=lift, noise=0.2), items, space=SPACE, model_digest=OLD)
    done = np.flatnonzero(np.random.default_rng(0).random(120) < 0.5)
    replace_rows(
        Gallery.open(tmp_path),
        [items[row] for row in done],
        sides(13)[done],
        space=SPACE,
        model_digest=NEW,
    )

    def found(*among):
        """Share of the six right rows among the first ten."""
        hits = Gallery.open(tmp_path).search(sides(11, lift=2.0), 10, among=among)
        right = [
            sum(hit.label == label for hit in of) for of, label in zip(hits, LABELS, strict=True)
        ]
        return np.mean(right) / 6

    fitted = [calibration(odds[each], odds[NEW]) for each in (OLD, NEW)]
    scaled = [
        Searchable(each, fit.scale, fit.shift) for each, fit in zip((OLD, NEW), fitted, strict=True)
    ]
    alone = max(found(Searchable(OLD)), found(Searchable(NEW)))
    assert found(*scaled) > alone + 0.1
    assert (
        found(Searchable(OLD), Searchable(NEW)) <= alone
    )  # as they are, one half buries the other
