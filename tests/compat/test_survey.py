"""One pass gives what separate passes give: bit for bit, own images, lone queries and ties too."""

import numpy as np
import pytest

from compat.errors import UsageError
from compat.overlap import top_items
from compat.retrieval import retrieval_per_query
from compat.scores import relevance
from compat.survey import survey
from compat.thresholds import accept_rates


@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_equals_separate_passes(block_bytes):
    rng = np.random.default_rng(0)
    query = rng.normal(size=(40, 8)).astype(np.float32)
    gallery = rng.normal(size=(1500, 8)).astype(np.float32)
    gallery[100:130] = gallery[0]  # ties
    gallery[:5] = query[:5]
    both = relevance(
        rng.integers(12, size=40),
        rng.integers(10, size=1500),  # labels 10 and 11 are lone
        query_ids=np.arange(40),
        gallery_ids=np.concatenate([np.arange(5), np.arange(100, 1595)]),
    )
    found = survey(query, gallery, both, threshold=0.5, block_bytes=block_bytes)
    alone = retrieval_per_query(query, gallery, both, block_bytes=block_bytes)
    assert np.isnan(alone.average_precision).any()
    for name in vars(alone):
        np.testing.assert_array_equal(getattr(found.retrieval, name), getattr(alone, name))
    top = top_items(query, gallery, 10, same=both.same, block_bytes=block_bytes)
    for name in ("rows", "ranks", "available"):
        np.testing.assert_array_equal(getattr(found.top, name), getattr(top, name))
    assert found.accepted == accept_rates(query, gallery, both, 0.5, block_bytes=block_bytes)


def test_without_a_threshold_nothing_is_accepted_or_refused():
    rows = np.eye(3, dtype=np.float32)
    assert survey(rows, rows, relevance([0, 1, 2], [0, 1, 2])).accepted is None
    with pytest.raises(UsageError, match="do not correspond"):
        survey(rows, rows, relevance([0], [0]))
