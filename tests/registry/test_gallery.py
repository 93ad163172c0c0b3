"""The gallery index: exact, in a fixed order, stamped, and never half built."""

import subprocess
import sys
from pathlib import Path

import lancedb
import numpy as np
import pytest

from compat.errors import CorruptError, SpaceError, UsageError
from compat.space import EmbeddingSpace
from registry.gallery import Gallery, GalleryRow, Generation, build, status

SPACE = EmbeddingSpace(family="chairs", generation=1, dim=8)
MODEL = "a" * 64


def rows_of(n, label="chair"):
    return [GalleryRow(f"item-{i:04d}", f"images/{i}.jpg", f"{label} {i % 3}") for i in range(n)]


def random_rows(n, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    build(tmp_path / "g", random_rows(300), rows_of(300), space=SPACE, model_digest=MODEL)
    return tmp_path / "g"


def slow_oracle(queries, gallery, ids, k):
    """Cosine pair by pair in plain Python floats, best first, ties by id."""
    ranked = []
    for query in queries.tolist():
        scored = []
        for item, row in zip(ids, gallery.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            norms = sum(a * a for a in query) ** 0.5 * sum(b * b for b in row) ** 0.5
            scored.append((-dot / norms, item))
        ranked.append([(item, -minus) for minus, item in sorted(scored)[:k]])
    return ranked


def test_search_is_exact(folder):
    queries = random_rows(70, seed=1)  # more than one batch
    found = Gallery.open(folder).search(queries, 7)
    expected = slow_oracle(queries, random_rows(300), [r.id for r in rows_of(300)], 7)
    assert [[hit.id for hit in hits] for hits in found] == [[i for i, _ in e] for e in expected]
    scores = np.array([[hit.score for hit in hits] for hits in found])
    np.testing.assert_allclose(scores, [[s for _, s in e] for e in expected], atol=1e-6)
    assert found[0][0].path == f"images/{int(found[0][0].id[5:])}.jpg"


def test_ties_go_by_id_even_at_the_cut(tmp_path):
    """Ids are given in descending order, so that an index that keeps row order fails."""
    same = np.tile(random_rows(1), (40, 1))
    rows = [GalleryRow(f"t{i:02d}", "p", "l") for i in reversed(range(40))]
    build(tmp_path, same, rows, space=SPACE, model_digest=MODEL)
    (hits,) = Gallery.open(tmp_path).search(same[:1], 5)
    assert [hit.id for hit in hits] == ["t00", "t01", "t02", "t03", "t04"]
    assert hits[0].score == pytest.approx(1)


def test_ties_at_the_cut_do_not_depend_on_where_rows_lie(tmp_path):
    """Rows appended behind the others, with lower ids: an index that cuts in file order fails."""
    same = np.tile(random_rows(1), (30, 1))
    rows = [GalleryRow(f"t{i:02d}", "p", "l") for i in range(10, 40)]
    build(tmp_path, same, rows, space=SPACE, model_digest=MODEL)
    table = lancedb.connect(tmp_path).open_table("chairs-g1-8-cosine")
    late = table.to_arrow().slice(0, 3).to_pylist()
    table.add([row | {"id": f"t{n:02d}"} for n, row in enumerate(late)])
    (hits,) = Gallery.open(tmp_path).search(same[:1], 5)
    assert [hit.id for hit in hits] == ["t00", "t01", "t02", "t10", "t11"]


def test_gallery_order_changes_nothing(tmp_path, folder):
    order = np.random.default_rng(3).permutation(300)
    shuffled = [rows_of(300)[i] for i in order]
    build(tmp_path / "s", random_rows(300)[order], shuffled, space=SPACE, model_digest=MODEL)
    queries = random_rows(5, seed=2)
    assert Gallery.open(tmp_path / "s").search(queries, 20) == Gallery.open(folder).search(
        queries, 20
    )


def test_k_beyond_the_gallery_gives_the_gallery(tmp_path):
    build(tmp_path, random_rows(3), rows_of(3), space=SPACE, model_digest=MODEL)
    (hits,) = Gallery.open(tmp_path).search(random_rows(1, seed=5), 10)
    assert sorted(hit.id for hit in hits) == ["item-0000", "item-0001", "item-0002"]


def test_stamps_are_on_the_table_and_on_every_row(folder):
    table = lancedb.connect(folder).open_table("chairs-g1-8-cosine")
    assert table.schema.metadata == {b"space": SPACE.id.encode()}
    everything = table.to_arrow()
    assert set(everything["space"].to_pylist()) == {SPACE.id}
    assert set(everything["model_digest"].to_pylist()) == {MODEL}


def test_status_counts_per_space(folder):
    other = EmbeddingSpace(family="chairs", generation=2, dim=4)
    build(folder, random_rows(5, dim=4), rows_of(5), space=other, model_digest="b" * 64)
    counted = [(each.space_id, each.rows, each.generations) for each in status(folder)]
    assert counted == [
        ("chairs/g1/8/cosine", 300, (Generation(MODEL, 300),)),
        ("chairs/g2/4/cosine", 5, (Generation("b" * 64, 5),)),
    ]


def test_rebuild_replaces_and_an_open_reader_stays(folder):
    reader = Gallery.open(folder)
    before = reader.search(random_rows(1), 3)
    build(folder, random_rows(10, seed=9), rows_of(10), space=SPACE, model_digest=MODEL)
    assert reader.search(random_rows(1), 3) == before
    assert Gallery.open(folder).status.rows == 10


def test_an_interrupted_build_leaves_the_old_gallery(folder):
    before = Gallery.open(folder).search(random_rows(4), 5)

    def stop(done, total):
        raise RuntimeError("stopped half way")

    with pytest.raises(UsageError, match="the old one is as it was"):
        build(
            folder,
            random_rows(9000),
            rows_of(9000),
            space=SPACE,
            model_digest="c" * 64,
            progress=stop,
        )
    assert Gallery.open(folder).status.generations == (Generation(MODEL, 300),)
    assert Gallery.open(folder).search(random_rows(4), 5) == before


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from compat.space import EmbeddingSpace
from registry.gallery import GalleryRow, build
rows = [GalleryRow(str(i), "p", "l") for i in range(9000)]
build(Path(sys.argv[1]), np.ones((9000, 8), np.float32), rows,
      space=EmbeddingSpace(family="chairs", generation=1, dim=8), model_digest="c" * 64,
      progress=lambda done, total: os._exit(9))
"""


def test_a_killed_build_leaves_the_old_gallery_and_can_be_repeated(folder):
    before = Gallery.open(folder).search(random_rows(4), 5)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=Path(__file__).parents[2], check=False
    )
    assert killed.returncode == 9
    assert Gallery.open(folder).search(random_rows(4), 5) == before
    build(folder, random_rows(10), rows_of(10), space=SPACE, model_digest=MODEL)
    assert Gallery.open(folder).status.rows == 10


def bad_value(value):
    spoilt = random_rows(3)
    spoilt[1, 2] = value
    return spoilt


@pytest.mark.parametrize(
    ("embeddings", "rows", "digest", "words"),
    [
        (random_rows(3, dim=7), rows_of(3), MODEL, r"must be \(G, 8\)"),
        (random_rows(3)[0], rows_of(3), MODEL, r"must be \(G, 8\)"),
        (bad_value(np.nan), rows_of(3), MODEL, "row 1 of 3 is zero or not finite"),
        (bad_value(np.inf), rows_of(3), MODEL, "row 1 of 3 is zero or not finite"),
        (np.zeros((3, 8)), rows_of(3), MODEL, "row 0 of 3 is zero"),
        (np.full((3, 8), 1e300), rows_of(3), MODEL, "not finite"),
        (random_rows(3), rows_of(2), MODEL, "2 gallery rows for 3 embeddings"),
        (random_rows(2), [rows_of(1)[0]] * 2, MODEL, "'item-0000' stands twice"),
        (random_rows(0), [], MODEL, "gallery is empty"),
        (random_rows(1), [GalleryRow("x' OR 1=1", "p", "l")], MODEL, "gallery id"),
        (random_rows(1), [GalleryRow("x", "p" * 2000, "l")], MODEL, "exceeds 1024"),
        (random_rows(1), rows_of(1), "deadbeef", "no sha256"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(folder, embeddings, rows, digest, words):
    before = status(folder)
    with pytest.raises(UsageError, match=words):
        build(folder, embeddings, rows, space=SPACE, model_digest=digest)
    assert status(folder) == before


@pytest.mark.parametrize(
    ("queries", "k", "words"),
    [
        (random_rows(1, dim=4), 5, r"must be \(Q, 8\)"),
        (random_rows(1)[0], 5, r"must be \(Q, 8\)"),
        (np.zeros((1, 8)), 5, "zero or not finite"),
        (random_rows(1), 0, "k is 0"),
        (random_rows(1), 1001, "k is 1001"),
    ],
)
def test_a_bad_query_is_refused(folder, queries, k, words):
    with pytest.raises(UsageError, match=words):
        Gallery.open(folder).search(queries, k)


def test_no_queries_no_results(folder):
    assert Gallery.open(folder).search(np.zeros((0, 8)), 5) == ()


def test_another_space_is_refused_with_the_cure(folder):
    with pytest.raises(SpaceError, match="gallery of space chairs/g1/8/cosine, not of chairs/g2"):
        Gallery.open(folder, "chairs/g2/8/cosine")


def test_no_gallery_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="kinspace gallery build"):
        Gallery.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_several_spaces_must_be_named(folder):
    other = EmbeddingSpace(family="chairs", generation=2, dim=8)
    build(folder, random_rows(5), rows_of(5), space=other, model_digest=MODEL)
    with pytest.raises(UsageError, match="2 spaces"):
        Gallery.open(folder)
    assert Gallery.open(folder, other.id).status.rows == 5


def test_damaged_files_are_corrupt_not_a_crash(folder):
    for data in (folder / "chairs-g1-8-cosine.lance" / "data").iterdir():
        data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(CorruptError, match="build it again"):
        Gallery.open(folder).search(random_rows(1), 3)
    for manifest in (folder / "chairs-g1-8-cosine.lance" / "_versions").iterdir():
        manifest.write_bytes(b"xx")
    with pytest.raises(CorruptError, match="build it again"):
        Gallery.open(folder)


def test_attack_rows_of_another_space_are_slipped_into_the_table(folder):
    table = lancedb.connect(folder).open_table("chairs-g1-8-cosine")
    foreign = table.to_arrow().slice(0, 1).to_pylist()[0] | {
        "id": "intruder",
        "space": "chairs/g2/8/cosine",
    }
    table.add([foreign])
    with pytest.raises(CorruptError, match="rows of another space"):
        Gallery.open(folder).search(np.array([foreign["vector"]]), 3)


def test_attack_a_gallery_is_renamed_to_pass_for_another_space(folder):
    (folder / "chairs-g1-8-cosine.lance").rename(folder / "chairs-g2-8-cosine.lance")
    with pytest.raises(CorruptError):
        Gallery.open(folder, "chairs/g2/8/cosine")


def test_row_by_id(folder):
    gallery = Gallery.open(folder)
    assert gallery.row("item-0007") == GalleryRow("item-0007", "images/7.jpg", "chair 1")
    assert gallery.row("item-9999") is None
    assert gallery.row("' OR '1'='1") is None
