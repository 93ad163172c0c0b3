"""The upgrade under load, on tiles: the same processes, the same signals, seconds."""

from pathlib import Path

import pytest
from tiles import SPACE, candidate, embedder_of, model, tiles_in

from benchmarks.under_load import Observation, Searcher, Watched
from benchmarks.upgrade_under_load import Scene, Told, plot, rows_of, tell
from compat.files import digest_of
from compat.matrix import CompatibilityMatrix
from registry.gallery_build import build_from_dataset, embed_images
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import Repository

OLD, NEW = model(0.0), model(0.4)
BOTH, ONLY_OLD = model(0.2), model(0.02)


@pytest.fixture
def scene(tmp_path) -> Scene:
    """1.0.0 admits two members to its gallery, 1.1.0 only one of them."""
    dataset = tiles_in(tmp_path / "data")
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family(SPACE.family)
    for version, cloud, members in (
        ("1.0.0", OLD, {"both": BOTH, "only-old": ONLY_OLD}),
        ("1.1.0", NEW, {"both": BOTH}),
    ):
        publish(
            repository,
            candidate(tmp_path / "data", version=version, cloud=cloud, members=members),
        )
    build_from_dataset(
        tmp_path / "g", dataset, embedder_of(OLD, tmp_path),
        space=SPACE, model_digest=digest_of(OLD),
    )  # fmt: skip
    queries = dataset.of("test", "query")
    searchers = tuple(
        Searcher(
            name,
            digest_of(blob),
            embed_images(embedder_of(blob, tmp_path), [each.path for each in queries]),
            tuple(each.label for each in queries),
        )
        for name, blob in (("both", BOTH), ("only-old", ONLY_OLD))
    )
    data = tmp_path / "data" / "manifest.csv"
    return Scene(tmp_path / "registry", tmp_path / "g", SPACE.family, data, searchers)


def test_no_request_fails_and_no_answer_mixes(scene, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    told = tell(scene, batch=4, pause_s=1.5)
    assert told.faults(scene.searchers) == []
    both, only_old = (told.watched.of(each.name) for each in scene.searchers)
    assert {each.status for each in both} == {200}
    assert {each.generations for each in both} >= {frozenset({"1.0.0"}), frozenset({"1.1.0"})}
    assert {each.left_out for each in both} == {0}
    assert {each.status for each in only_old} == {200, 409}  # refused when no old row was left
    assert max(each.left_out for each in only_old) > 0
    assert only_old[-1].status == 200  # and answered again after the rollback
    assert {frozenset({"1.0.0"})} == {each.generations for each in only_old if each.status == 200}
    assert plot(told, scene.searchers).startswith(b"<?xml")
    assert {row["failed"] for row in rows_of(told, scene.searchers)} == {0}


def test_a_failed_request_and_a_forbidden_row_are_faults():
    """The judge itself: it must not call everything good."""
    watched = Watched()
    searcher = Searcher("s", "a" * 64, None, ("c",))
    good = Observation(0.0, "s", 409)
    watched.seen.append(good)
    nothing_admitted = CompatibilityMatrix(family="tiles")
    assert Told(watched, nothing_admitted, "x", "x").faults([searcher]) == []
    watched.seen += [
        Observation(1.0, "s", 500),
        Observation(1.0, "s", 200, 0.5, 0, frozenset({"1.0.0"})),
    ]
    assert Told(watched, nothing_admitted, "x", "y").faults([searcher]) == [
        "1 requests failed",
        "1 answers held a row that the matrix forbids",
        "the rollback did not give back every row",
    ]
