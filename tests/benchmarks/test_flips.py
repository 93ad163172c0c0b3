"""The flips table's rows against a loop, and what stays when a part is measured again."""

import numpy as np
import pytest

from benchmarks.flips import merged, rows_of, table_of


def test_rows_are_counted_against_the_old_and_the_plain_model() -> None:
    rng = np.random.default_rng(0)
    labels = [f"c{row // 4}" for row in range(80)]
    old, plain, ours = ((rng.random(80) < share).astype(float) for share in (0.5, 0.6, 0.7))
    rows = rows_of({"set": "s", "pair": "p"}, {"none": plain, "ours": ours}, old, labels)
    flips = [
        sum(was == 1 and now == 0 for was, now in zip(old, new, strict=True))
        for new in (plain, ours)
    ]
    for row, new, count in zip(rows, (plain, ours), flips, strict=True):
        error = 1 - new.mean()
        assert row["error"] == pytest.approx(error, abs=1e-4)
        assert row["nfr"] == pytest.approx(count / 80, abs=1e-4)
        assert row["relative_nfr"] == pytest.approx(count / 80 / (old.mean() * error), abs=1e-4)
    low, value, high = (rows[1]["nfr_minus_none"][place] for place in (1, 0, 2))
    assert value == pytest.approx((flips[1] - flips[0]) / 80, abs=1e-4)
    assert low <= value <= high
    assert rows[0]["relative_nfr_to_none"] == 1
    assert "| ours |" in table_of(rows)


def test_a_part_that_is_measured_again_replaces_its_own_rows() -> None:
    kept = [{"set": "a", "pair": "p", "error": 1}, {"set": "b", "pair": "p", "error": 1}]
    assert merged(kept, [{"set": "a", "pair": "p", "error": 2}]) == [
        {"set": "b", "pair": "p", "error": 1},
        {"set": "a", "pair": "p", "error": 2},
    ]
