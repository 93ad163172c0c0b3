"""The upgrade under load, on tiles: a server, searchers and one backfill that is killed."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from tiles import SPACE, candidate, embedder_of, model, tiles_in

from benchmarks.under_load import Observation, Searcher, Watched, watch
from benchmarks.upgrade_under_load import Told, plot, rows_of
from compat.dataset import read_dataset
from compat.files import digest_of
from compat.matrix import CompatibilityMatrix
from registry.backfill import backfill
from registry.gallery import Gallery
from registry.gallery_build import build_from_dataset, embed_images
from registry.gallery_life import content_digest, roll_back
from registry.keys import KeyFolder
from registry.live_gallery import REFRESH_S
from registry.local_release import LocalRelease
from registry.publish import publish
from registry.repository import Repository
from registry.service import create_app
from registry.storage.files import FileStore

OLD, NEW = model(0.0), model(0.4)
BOTH, ONLY_OLD = model(0.2), model(0.02)
ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {support}
from tiles import SPACE, embedder_of, model
from compat.dataset import read_dataset
from compat.files import digest_of
from registry.backfill import backfill
root = Path(sys.argv[1])
backfill(root / "g", read_dataset(root / "data"), embedder_of(model(0.4), root), space=SPACE,
         model_digest=digest_of(model(0.4)), batch_rows=8,
         progress=lambda step: os.kill(os.getpid(), 9) if step.done >= 12 else None)
"""


@pytest.fixture
def searchers(tmp_path) -> tuple[Searcher, ...]:
    """1.0.0 admits two members to its gallery g/, 2.0.0 only one of them."""
    dataset = tiles_in(tmp_path / "data")
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family(SPACE.family)
    for version, cloud, members in (
        ("1.0.0", OLD, {"both": BOTH, "only-old": ONLY_OLD}),
        ("2.0.0", NEW, {"both": BOTH}),
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
    return tuple(
        Searcher(
            name,
            digest_of(blob),
            embed_images(embedder_of(blob, tmp_path), [each.path for each in queries]),
            tuple(each.label for each in queries),
        )
        for name, blob in (("both", BOTH), ("only-old", ONLY_OLD))
    )


@contextmanager
def served(root, matrix, release) -> Iterator[str]:
    app = create_app(FileStore(root / "registry"), root / "g", release, matrix=matrix)
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join()


def seen_again(watched, searchers) -> None:
    """Wait until each searcher began and ended a pass on the gallery as it is now."""
    time.sleep(2 * REFRESH_S)
    for searcher in searchers:
        before = len(watched.of(searcher.name))
        while len(watched.of(searcher.name)) < before + 2:
            time.sleep(0.05)


def test_no_request_fails_and_no_answer_mixes(searchers, tmp_path):
    (tmp_path / "scratch").mkdir()
    release = LocalRelease(FileStore(tmp_path / "registry"), "tiles", tmp_path / "scratch")
    matrix, dataset = release.matrix, read_dataset(tmp_path / "data")
    wanted = {"space": SPACE, "model_digest": digest_of(NEW), "batch_rows": 8}
    before = content_digest(Gallery.open(tmp_path / "g"))
    with (
        served(tmp_path, matrix, release.manifest) as url,
        watch(url, SPACE.id, searchers) as watched,
    ):
        seen_again(watched, searchers)
        watched.note("backfill")
        script = KILLED.format(support=[str(ROOT / "tests" / "support")])
        killed = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        seen_again(watched, searchers)
        watched.note("resumed")
        backfill(tmp_path / "g", dataset, embedder_of(NEW, tmp_path), **wanted)
        seen_again(watched, searchers)
        watched.note("rollback")
        roll_back(tmp_path / "g")
        seen_again(watched, searchers)
    told = Told(watched, matrix, before, content_digest(Gallery.open(tmp_path / "g")))
    assert told.faults(searchers) == []
    both, only_old = (told.watched.of(each.name) for each in searchers)
    assert {each.status for each in both} == {200}
    assert {"1.0.0", "2.0.0"} == set().union(*(each.generations for each in both))
    assert {each.left_out for each in both} == {0}
    assert {each.status for each in only_old} == {200, 409}  # refused when no old row was left
    assert max(each.left_out for each in only_old) > 0
    assert only_old[-1].status == 200  # and answered again after the rollback
    assert {frozenset({"1.0.0"})} == {each.generations for each in only_old if each.status == 200}
    assert plot(told, searchers).startswith(b"<?xml")
    assert {row["failed"] for row in rows_of(told, searchers)} == {0}


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
