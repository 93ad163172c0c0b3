"""The matrix: who has to exceed what."""

import numpy as np
import pytest

from compat.scores import relevance
from compat.upgrade_report import Embedded, UpgradeReport, markdown_of, upgrade_report

LABELS = [f"c{i % 8}" for i in range(32)]


def model(release: str, name: str, noise: float, *, cloud: bool, turned: bool = False) -> Embedded:
    """Class directions plus noise; ``turned`` into coordinates of its own."""
    rng = np.random.default_rng(len(release + name))
    centres = np.eye(8, 12)
    if turned:
        centres = np.roll(centres, 1, axis=0)
    sides = [
        (centres[[int(label[1:]) for label in LABELS]] + noise * rng.normal(size=(32, 12)))
        for _ in range(2)
    ]
    return Embedded(release, name, *(side.astype(np.float32) for side in sides), cloud)


def report(*models: Embedded, free: Embedded | None = None) -> UpgradeReport:
    return upgrade_report(
        family="shapes",
        version="2.0.0",
        dataset_digest="d",
        split="test",
        models=models,
        unconstrained=free,
        relevance=relevance(LABELS, LABELS),
        classes=LABELS,
    )


OLD = model("old", "cloud", 0.5, cloud=True)
EDGE = model("old", "edge", 0.7, cloud=False)


def test_a_better_model_in_the_same_coordinates_holds_everywhere() -> None:
    new = model("new", "cloud", 0.05, cloud=True)
    found = report(OLD, EDGE, new, free=new)
    assert found.criterion
    assert found.average_compatibility == 1.0
    assert found.update_gain is not None
    assert 0 < found.update_gain.value < 1
    pairs = {(p.query_release, p.query, p.gallery_release): p for p in found.pairs}
    assert len(pairs) == 6
    cross = pairs["new", "cloud", "old"]
    assert cross.criterion == pairs["old", "cloud", "old"].cross  # M(old, old), not M(new, new)
    assert pairs["old", "cloud", "old"].holds is None
    assert pairs["old", "cloud", "new"].criterion == pairs["old", "cloud", "old"].cross
    assert pairs["old", "edge", "new"].criterion == pairs["old", "edge", "old"].criterion
    assert pairs["old", "edge", "new"].holds
    assert "holds" in markdown_of(found)


def test_a_model_in_coordinates_of_its_own_fails() -> None:
    new = model("new", "cloud", 0.05, cloud=True, turned=True)
    found = report(OLD, EDGE, new, free=new)
    assert not found.criterion
    assert found.average_compatibility == 0.0
    assert found.update_gain is None
    assert "FAILS" in markdown_of(found)
    assert found.self_above_unconstrained is not None
    assert found.self_above_unconstrained.value == 0


def test_average_compatibility_is_over_the_whole_chain() -> None:
    best = model("new", "cloud", 0.05, cloud=True)
    strange = model("a", "cloud", 0.3, cloud=True, turned=True)
    found = report(strange, OLD, best)
    assert found.criterion
    assert found.average_compatibility == pytest.approx(1 / 3)
    assert UpgradeReport.model_validate_json(found.model_dump_json()) == found
