"""Foreign rows: gallery vectors that another model embedded under this model's stamp.

A stamp says who should have embedded a row; only embedding its image again shows who did. A sample
suffices: `sample_size` makes it so large that a gallery with 3% of foreign rows is passed over with
probability below 1e-3.
"""

import math
from collections.abc import Sequence

import numpy as np

from compat.embedding import cosine_rows
from compat.errors import RefusedError
from compat.preprocess import Floats
from compat.scores import Ints

SHARE = 0.03  # of foreign rows that must not be passed over
MISS = 1e-3  # probability of passing them over
MIN_COSINE = 0.999  # of a row with its image embedded again: other processors round differently


def sample_size(total: int) -> int:
    """How many of ``total`` rows to embed again: at most 227.

    Draws with replacement miss with probability (1 - `SHARE`)^n; without, more rarely.
    """
    return min(total, math.ceil(math.log(MISS) / math.log(1 - SHARE)))


def draw_rows(total: int, seed: int) -> Ints:
    """(n,) distinct rows of ``total``, ascending, equal for equal seeds."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(total, sample_size(total), replace=False)).astype(np.int64)


def check_rows(stored: Floats, again: Floats, names: Sequence[str]) -> None:
    """Compare gallery rows with their images embedded again: (n, D), (n, D).

    Raises:
        RefusedError: some are by another model. Remedy: build the gallery anew.
        UsageError: the two do not correspond, or a row has no direction.
    """
    cosines = cosine_rows(stored, again)  # (n,)
    foreign = np.flatnonzero(~(cosines >= MIN_COSINE))
    if not len(foreign):
        return
    low, high = cosines[foreign].min(), cosines[foreign].max()
    raise RefusedError(
        f"{len(foreign)} of {len(cosines)} sampled gallery rows are not by this cloud model: "
        f"cosine {low:.4f} to {high:.4f} with their images embedded again, {MIN_COSINE} is needed "
        f"(first {names[foreign[0]]}): build the gallery anew"
    )
