"""A gallery gets a new model while it is searched: stopped, killed, resumed, rolled back."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiles import SPACE, embedder_of, model, tiles_in

from compat.dataset import Dataset, read_dataset
from compat.errors import CorruptError, DataError, SpaceError, UsageError
from compat.files import digest_of
from compat.space import EmbeddingSpace
from edge.lock import exclusive
from registry.backfill import BackfillStep, HeldOutQueries, backfill
from registry.gallery import Gallery, GalleryRow, Generation, Searchable, build
from registry.gallery_build import build_from_dataset, embed_images
from registry.gallery_life import accept, content_digest, replace_rows, roll_back

OLD, NEW = model(0.0), model(0.4)
OLD_DIGEST, NEW_DIGEST = digest_of(OLD), digest_of(NEW)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return tiles_in(tmp_path / "data")


@pytest.fixture
def folder(tmp_path, dataset) -> Path:
    """A gallery of 40 rows that the old model embedded."""
    embedder = embedder_of(OLD, tmp_path)
    build_from_dataset(tmp_path / "g", dataset, embedder, space=SPACE, model_digest=OLD_DIGEST)
    return tmp_path / "g"


def refill(folder, dataset, **over) -> BackfillStep:
    wanted = {"space": SPACE, "model_digest": NEW_DIGEST, "batch_rows": 8, **over}
    return backfill(folder, dataset, embedder_of(NEW, folder.parent), **wanted)


def stop_after(commits):
    """A stop that is asked for after so many commits."""
    asked = iter([False] * commits + [True])
    return lambda: next(asked)


def test_every_row_is_what_a_build_with_the_new_model_gives(folder, dataset, tmp_path):
    assert refill(folder, dataset).done == 40
    embedder = embedder_of(NEW, tmp_path)
    build_from_dataset(tmp_path / "n", dataset, embedder, space=SPACE, model_digest=NEW_DIGEST)
    assert content_digest(Gallery.open(folder)) == content_digest(Gallery.open(tmp_path / "n"))


def test_half_way_both_generations_lie_side_by_side(folder, dataset):
    stopped = refill(folder, dataset, stopped=stop_after(2))
    held = Gallery.open(folder).status.generations
    assert (stopped.done, stopped.total) == (sum(g.rows for g in held[1:]), 40)
    assert {g.model_digest for g in held} == {OLD_DIGEST, NEW_DIGEST}


def test_a_search_sees_the_generations_that_it_names_and_no_other(folder, dataset, tmp_path):
    refill(folder, dataset, stopped=stop_after(2))
    gallery = Gallery.open(folder)
    query = embed_images(embedder_of(NEW, tmp_path), [dataset.of("test", "query")[0].path])
    for digest in (OLD_DIGEST, NEW_DIGEST):
        (hits,) = gallery.search(query, 40, among=[Searchable(digest)])
        assert {hit.model_digest for hit in hits} == {digest}
    both = [Searchable(OLD_DIGEST), Searchable(NEW_DIGEST)]
    (hits,) = gallery.search(query, 40, among=both)
    assert len(hits) == 40
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert gallery.search(query, 40, among=[]) == ((),)
    with pytest.raises(UsageError, match="2 generations"):
        gallery.search(query, 40)


def test_calibration_moves_one_generation_against_the_other(folder, dataset, tmp_path):
    refill(folder, dataset, stopped=stop_after(2))
    gallery = Gallery.open(folder)
    query = embed_images(embedder_of(NEW, tmp_path), [dataset.of("test", "query")[0].path])
    lifted = [Searchable(OLD_DIGEST, scale=0.1, shift=0.5), Searchable(NEW_DIGEST, 0.1, -0.5)]
    (hits,) = gallery.search(query, 40, among=lifted)
    order = [hit.model_digest for hit in hits]
    assert order == sorted(order, key=[OLD_DIGEST, NEW_DIGEST].index)  # all old rows come first
    (plain,) = gallery.search(query, 1, among=[Searchable(OLD_DIGEST)])
    assert hits[0].score == pytest.approx(0.1 * plain[0].score + 0.5, abs=1e-6)


def test_stopped_and_resumed_is_never_stopped(folder, dataset, tmp_path):
    steps = []
    assert refill(folder, dataset, stopped=stop_after(1)).done < 40
    assert refill(folder, dataset, stopped=stop_after(2)).done < 40
    assert refill(folder, dataset, progress=steps.append).done == 40
    assert steps[0].done > 0  # it went on
    other = tmp_path / "never"
    build_from_dataset(
        other, dataset, embedder_of(OLD, tmp_path), space=SPACE, model_digest=OLD_DIGEST
    )
    refill(other, dataset)
    assert content_digest(Gallery.open(folder)) == content_digest(Gallery.open(other))


@pytest.mark.parametrize("commits", [0, 1, 99])
def test_a_rollback_gives_back_every_row(folder, dataset, commits):
    before = Gallery.open(folder)
    digest, hits = content_digest(before), before.search(np.eye(8, dtype=np.float32), 9)
    refill(folder, dataset, stopped=stop_after(commits))
    undone = roll_back(folder)
    after = Gallery.open(folder)
    assert (undone.rows, undone.content_digest, content_digest(after)) == (40, digest, digest)
    assert after.search(np.eye(8, dtype=np.float32), 9) == hits
    with pytest.raises(UsageError, match="no backfill"):
        roll_back(folder)


def test_two_backfills_are_undone_one_after_the_other(folder, dataset, tmp_path):
    newest = model(0.9)
    states = [content_digest(Gallery.open(folder))]
    refill(folder, dataset)
    states.append(content_digest(Gallery.open(folder)))
    backfill(
        folder, dataset, embedder_of(newest, tmp_path), space=SPACE, model_digest=digest_of(newest)
    )
    assert [roll_back(folder).content_digest for _ in range(2)] == states[::-1]


def test_there_and_back_again_is_three_backfills(folder, dataset, tmp_path):
    states = [content_digest(Gallery.open(folder))]
    for blob in (NEW, model(0.9), NEW, NEW):  # the last one finds nothing to do
        embedder = embedder_of(blob, tmp_path)
        backfill(folder, dataset, embedder, space=SPACE, model_digest=digest_of(blob))
        states.append(content_digest(Gallery.open(folder)))
    assert states[3] == states[4] == states[1]
    assert [roll_back(folder).content_digest for _ in range(3)] == states[2::-1]
    with pytest.raises(UsageError, match="no backfill"):
        roll_back(folder)


def test_after_a_rollback_the_backfill_can_be_made_again(folder, dataset):
    refill(folder, dataset, stopped=stop_after(2))
    roll_back(folder)
    assert refill(folder, dataset).done == 40
    assert Gallery.open(folder).status.generations == (Generation(NEW_DIGEST, 40),)


def test_accepted_or_built_anew_there_is_nothing_to_undo(folder, dataset, tmp_path):
    refill(folder, dataset)
    assert accept(folder) == 1
    with pytest.raises(UsageError, match="no backfill"):
        roll_back(folder)
    roll_forward = model(0.9)
    embedder = embedder_of(roll_forward, tmp_path)
    backfill(folder, dataset, embedder, space=SPACE, model_digest=digest_of(roll_forward))
    build_from_dataset(folder, dataset, embedder, space=SPACE, model_digest=digest_of(roll_forward))
    with pytest.raises(UsageError, match="no backfill"):
        roll_back(folder)


def test_an_open_reader_stays_and_a_newer_version_is_noticed(folder, dataset):
    reader = Gallery.open(folder)
    assert reader.newer() is None
    before = reader.search(np.eye(8, dtype=np.float32), 5)
    refill(folder, dataset)
    assert reader.search(np.eye(8, dtype=np.float32), 5) == before
    newer = reader.newer()
    assert newer.status.generations == (Generation(NEW_DIGEST, 40),)
    roll_back(folder)
    assert newer.newer().search(np.eye(8, dtype=np.float32), 5) == before


def test_accuracy_is_told_as_it_goes(folder, dataset, tmp_path):
    images, foreign = dataset.of("test", "query"), embedder_of(model(-50.0), tmp_path)
    embeddings = embed_images(foreign, [image.path for image in images])
    queries = HeldOutQueries(
        embeddings, ("not in the gallery", *(image.label for image in images[1:]))
    )
    steps = []
    backfill(
        folder, dataset, foreign, space=SPACE, model_digest=digest_of(model(-50.0)),
        queries=queries, batch_rows=8, progress=steps.append,
    )  # fmt: skip
    assert [step.done for step in steps][:2] == [0, 4]  # a tenth is drawn first
    assert steps[-1].hit_rate_at_10 == 1.0  # of 39: the lone query is left out
    assert steps[0].hit_rate_at_10 < 1.0


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


def test_killed_it_goes_on_and_can_be_rolled_back(folder, dataset, tmp_path):
    before = content_digest(Gallery.open(folder))
    script = KILLED.format(support=[str(Path(__file__).parents[1] / "support")])
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done = {g.model_digest: g.rows for g in Gallery.open(folder).status.generations}
    assert done == {OLD_DIGEST: 28, NEW_DIGEST: 12}
    steps = []
    refill(folder, dataset, progress=steps.append)
    assert (steps[0].done, steps[-1].done) == (12, 40)
    assert roll_back(folder).content_digest == before


def test_two_writers_are_refused(folder, dataset):
    with exclusive(folder / ".lock", "another"):
        for write in (lambda: refill(folder, dataset), lambda: roll_back(folder)):
            with pytest.raises(UsageError, match="another build or backfill is at work"):
                write()


def test_a_missing_image_is_named_before_anything_is_written(folder, dataset):
    version = Gallery.open(folder).status.version
    fewer = Dataset(dataset.images[:-1])
    with pytest.raises(DataError, match=r"1 of 40 gallery items are no gallery image.*39-gallery"):
        refill(folder, fewer)
    assert Gallery.open(folder).status.version == version
    with pytest.raises(UsageError, match="no backfill"):
        roll_back(folder)


def test_attack_a_model_of_another_space(folder, dataset):
    """A backfill never brings rows of another dimension, nor touches another space's gallery."""
    before = content_digest(Gallery.open(folder))
    with pytest.raises(SpaceError, match="8 dimensions"):
        refill(folder, dataset, space=EmbeddingSpace(family="tiles", generation=1, dim=16))
    with pytest.raises(SpaceError, match="not of tiles/g2/8/cosine"):
        refill(folder, dataset, space=EmbeddingSpace(family="tiles", generation=2, dim=8))
    assert content_digest(Gallery.open(folder)) == before


def test_rows_that_the_gallery_does_not_hold_are_not_added(folder):
    stranger = [GalleryRow("stranger", "s.png", "c0")]
    with pytest.raises(CorruptError, match="0 rows"):
        replace_rows(
            Gallery.open(folder),
            stranger,
            np.ones((1, 8), np.float32),
            space=SPACE,
            model_digest=NEW_DIGEST,
        )
    assert Gallery.open(folder).status.rows == 40


def test_an_image_that_cannot_be_read_leaves_what_was_committed(folder, dataset):
    broken = dataset.of("test", "gallery")[7].path
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=broken.name):
        refill(folder, dataset)
    assert Gallery.open(folder).status.rows == 40
    broken.write_bytes(whole)
    assert refill(folder, read_dataset(broken.parent)).done == 40


def test_a_tampered_stamp_is_not_a_generation(tmp_path):
    import lancedb

    build(
        tmp_path, np.eye(8, dtype=np.float32), [GalleryRow(str(i), "p", "l") for i in range(8)],
        space=SPACE, model_digest=OLD_DIGEST,
    )  # fmt: skip
    table = lancedb.connect(tmp_path).open_table("tiles-g1-8-cosine")
    table.update(where="id = '3'", values={"model_digest": "mine"})
    with pytest.raises(CorruptError, match="1 rows that no model's digest is stamped on"):
        Gallery.open(tmp_path)
