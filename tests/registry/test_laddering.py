"""A foreign new model before an old gallery: each rung over real HTTP, in the signed order."""

import json
import time
from pathlib import Path

import pytest
import typer
from foreign import (
    G1,
    G2,
    NEW_CLOUD,
    OLD_CLOUD,
    gallery,
    ladder_of,
    ladder_publish,
    photo_of,
    release,
    repository_in,
    resigned,
    served,
    two_releases,
)
from tiles import SPACE, model, tiles_in
from typer.testing import CliRunner

from compat.adapter import Adapter
from compat.errors import OfflineError, QueryRefusedError, UntrustedError
from compat.files import digest_of
from compat.ladder import Means, climb, ladder_target
from compat.manifest import Blob, blob_target
from compat.matrix import CompatibilityMatrix, matrix_target
from compat.space import EmbeddingSpace
from edge.device import Device
from edge.ladder import fetch_ladder, search_by_ladder
from registry.cli_ladder import ladder_app
from registry.cli_search import search

search_app = typer.Typer()
search_app.command()(search)


@pytest.fixture
def root(tmp_path) -> Path:
    """registry/ with 1.0.0 and a foreign 2.0.0, data/, and the gallery g/ that 1.0.0 embedded."""
    dataset = tiles_in(tmp_path / "data", 30, n_train=40)
    gallery(tmp_path, "g", dataset, OLD_CLOUD, G1)
    return tmp_path


@pytest.fixture
def device(root) -> Device:
    """It ran 1.0.0, then took 2.0.0."""
    return two_releases(root)


def test_the_adapter_is_the_first_rung(root, device):
    published = ladder_publish(root, "--json")
    assert published.exit_code == 0, published.output
    rungs = json.loads(published.stdout)["rungs"]
    assert [(rung["kind"], rung["admitted"]) for rung in rungs] == [
        ("adapter", True), ("dual", True), ("cloud", True)
    ]  # fmt: skip
    shown = CliRunner().invoke(
        ladder_app,
        ["show", "--registry", str(root / "registry"), "--family", "tiles", "--new", "2.0.0",
         "--old", "1.0.0"],
    )  # fmt: skip
    assert [line.split()[1] for line in shown.stdout.splitlines()[1:]] == [
        "adapter", "dual", "cloud", "refuse"
    ]  # fmt: skip
    photo = photo_of(root)
    with served(root) as url:
        asked = ["--home", str(root / "phone"), "--server", url, str(photo.path), "--json"]
        found = CliRunner().invoke(search_app, asked)
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert (answer["rung"], answer["hits"][0]["label"]) == ("adapter", photo.label)
    assert answer["hits"][0]["generation"] == "1.0.0"


def test_scores_are_fitted_and_signed(root, device):
    """The adapter's onto those of the gallery's own model, those onto the new model's."""
    assert ladder_publish(root).exit_code == 0
    ladder = ladder_of(root)
    assert (ladder.score_scale, ladder.score_shift) != (1, 0)
    blob = repository_in(root).read(G1.family, matrix_target(G1.family), max_bytes=9**9)
    matrix = CompatibilityMatrix.from_bytes(blob, family=G1.family)
    adapted = matrix.check(artifact_digest=ladder.rungs[0].makes_query[0], gallery="1.0.0")
    assert (adapted.score_scale, adapted.score_shift) != (1, 0)


def test_without_a_ladder_the_query_is_refused(root, device):
    with served(root) as url:
        asked = ["--home", str(root / "phone"), "--server", url, str(photo_of(root).path)]
        refused = CliRunner().invoke(search_app, asked)
    assert refused.exit_code == 5
    assert "nobody signed a ladder" in refused.stderr


def test_the_order_is_the_signed_one(root, device):
    assert ladder_publish(root).exit_code == 0
    ladder = resigned(root, rungs=tuple(reversed(ladder_of(root).rungs)))
    photo = photo_of(root)
    with served(root, photos=True) as url:
        allowed = search_by_ladder(device, url, photo.path, k=3, may_send_photo=True)
        kept = search_by_ladder(device, url, photo.path, k=3)
    assert [rung.kind for rung in ladder.rungs] == ["cloud", "dual", "adapter"]
    assert (allowed.rung.kind, kept.rung.kind) == ("cloud", "dual")
    for climbed in (allowed, kept):
        assert climbed.answer.results[0][0].label == photo.label


def test_a_photo_is_sent_only_when_it_is_allowed(root, device):
    assert ladder_publish(root).exit_code == 0
    resigned(root, rungs=[ladder_of(root).rungs[2]])
    with served(root, photos=True) as url:
        with pytest.raises(QueryRefusedError, match="--send-photo"):
            search_by_ladder(device, url, photo_of(root).path)
        assert search_by_ladder(device, url, photo_of(root).path, may_send_photo=True)
    with served(root) as url, pytest.raises(Exception, match="404"):
        search_by_ladder(device, url, photo_of(root).path, may_send_photo=True)


def test_a_rung_that_finds_too_little_is_none(root, device):
    refused = ladder_publish(root, "--min-share", "1.0")
    assert refused.exit_code == 0  # the old model itself reaches what it reached
    found = {rung.kind: rung.admitted for rung in ladder_of(root).rungs}
    assert found["dual"]
    ladder = ladder_of(root)
    none = ladder.model_copy(
        update={"rungs": tuple(r.model_copy(update={"admitted": False}) for r in ladder.rungs)}
    )
    with pytest.raises(QueryRefusedError, match="adapter finds too little"):
        climb(none, Means(frozenset(ladder.rungs[1].makes_query), may_send_photo=True))


def test_attack_the_matrix_does_not_know_the_adapter(root, device):
    """The service refuses an adapted query that nobody admitted; the next rung answers."""
    before = repository_in(root).read(G1.family, matrix_target(G1.family), max_bytes=9**9)
    assert ladder_publish(root).exit_code == 0
    with served(root) as url:
        assert search_by_ladder(device, url, photo_of(root).path).rung.kind == "adapter"
    repository_in(root).sign_targets(G1.family, {}, moving={matrix_target(G1.family): before})
    with served(root) as url:
        assert search_by_ladder(device, url, photo_of(root).path).rung.kind == "dual"


def swapped_adapter(root, change) -> None:
    """An adapter that its publisher signed by mistake."""
    repository, ladder = repository_in(root), ladder_of(root)
    old = ladder.rungs[0].adapter
    name = blob_target(G1.family, old.digest)
    blob = change(repository.read(G1.family, name, max_bytes=9**9))
    named = Blob(digest=digest_of(blob), size_bytes=len(blob))
    rung = ladder.rungs[0].model_copy(update={"adapter": named, "makes_query": (named.digest,)})
    changed = ladder.model_copy(update={"rungs": (rung, *ladder.rungs[1:])})
    repository.sign_targets(
        G1.family,
        {blob_target(G1.family, named.digest): blob},
        moving={ladder_target(G2, "small", G1.id): changed.to_bytes()},
    )


def of_another_family(blob: bytes) -> bytes:
    found = Adapter.from_bytes(blob)
    sofas = EmbeddingSpace(family="sofas", generation=1, dim=SPACE.dim)
    return Adapter(found.header.model_copy(update={"target": sofas}), found.tensors).to_bytes()


def of_another_dimension(blob: bytes) -> bytes:
    found = Adapter.from_bytes(blob)
    cut = {**found.tensors, "weight": found.tensors["weight"][:, :4]}
    return Adapter(found.header, cut).to_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_another_family, "offered for tiles/g2/8/cosine into tiles/g1"),
        (of_another_dimension, "weight is float32"),
        (lambda blob: b"{}", "not an adapter"),
    ],
)
def test_attack_a_wrong_adapter_asks_nothing(root, device, change, words):
    assert ladder_publish(root).exit_code == 0
    running = device.active().manifest.version
    with served(root) as url:
        assert search_by_ladder(device, url, photo_of(root).path).rung.kind == "adapter"
        swapped_adapter(root, change)
        with pytest.raises(UntrustedError, match=words):
            search_by_ladder(device, url, photo_of(root).path)
    assert device.active().manifest.version == running


def test_attack_the_ladder_of_another_artifact(root, device):
    assert ladder_publish(root).exit_code == 0
    fetch_ladder(device, device.active(), G1.id)
    resigned(root, artifacts=["f" * 64])
    with pytest.raises(UntrustedError, match="says it is of small"):
        fetch_ladder(device, device.active(), G1.id)


def test_one_space_needs_no_ladder(root, device):
    release(root, "2.1.0", NEW_CLOUD, model(-9.2), G2)
    same = CliRunner().invoke(
        ladder_app,
        ["publish", "--registry", str(root / "registry"), "--keys", str(root / "keys"), "--data",
         str(root / "data"), "--family", "tiles", "--new", "2.1.0", "--old", "2.0.0"],
    )  # fmt: skip
    assert same.exit_code == 2
    assert "stand in the matrix" in same.stderr


def test_attack_a_stamped_generation_that_no_matrix_knows(root, device):
    """Rows of a model that nobody published are not served; beside known rows they are left out."""
    import lancedb

    table = lancedb.connect(root / "g").open_table("tiles-g1-8-cosine")
    first = table.to_arrow()["id"].to_pylist()[:5]
    with served(root) as url:
        ids = ", ".join(f"'{each}'" for each in first)
        table.update(where=f"id IN ({ids})", values={"model_digest": "e" * 64})
        time.sleep(0.6)  # the service looks for a new version
        old = device.previous()
        from edge.search import search_many

        query = device.embedder(old).embed_images([photo_of(root).path.read_bytes()])
        asked = {"space_id": G1.id, "artifact_digest": old.artifact.digest, "k": 100}
        answer = search_many(url, query, **asked)
        assert (answer.left_out, len(answer.results[0])) == (5, 65)
        assert not {hit.id for hit in answer.results[0]} & set(first)
        table.update(where="true", values={"model_digest": "e" * 64})
        time.sleep(0.6)
        with pytest.raises(QueryRefusedError, match="no release made the rows of eeeeeeeeeeee"):
            search_many(url, query, **asked)
    with pytest.raises(Exception, match="build the gallery again"), served(root):
        pass


def test_a_matrix_without_the_gallery_signs_nothing(root, device):
    empty = CompatibilityMatrix(family=G1.family)
    repository_in(root).sign_targets(
        G1.family, {}, moving={matrix_target(G1.family): empty.to_bytes()}
    )
    refused = ladder_publish(root)
    assert refused.exit_code == 5
    assert "publish its release first" in refused.stderr


def test_offline_is_said(root, device):
    assert ladder_publish(root).exit_code == 0
    with pytest.raises(OfflineError):
        search_by_ladder(device, "http://127.0.0.1:1", photo_of(root).path)
