"""One photo, galleries of two spaces: embedded by the new model and the one before, merged."""

import json

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
    resigned,
    served,
    two_releases,
)
from tiles import tiles_in
from typer.testing import CliRunner

from compat.dataset import Dataset
from compat.errors import OfflineError, QueryRefusedError, UsageError
from edge.ladder import search_by_ladder
from edge.photo_search import search_by_photo
from registry.cli_search import search

K = 5
search_app = typer.Typer()
search_app.command()(search)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return tiles_in(tmp_path / "data", 30, n_train=40)


@pytest.fixture
def device(tmp_path, dataset):
    """The new gallery holds what comes first, the old one the rest; five items lie in both."""
    device = two_releases(tmp_path)
    items = dataset.of("test", "gallery")
    for name, some, cloud, space in (
        ("new", items[:15], NEW_CLOUD, G2),
        ("old", items[10:], OLD_CLOUD, G1),
    ):
        gallery(tmp_path, name, Dataset(some), cloud, space)
    published = ladder_publish(tmp_path)
    assert published.exit_code == 0, published.output
    return device


def order(root, *kinds) -> None:
    """Sign the ladder again, with these rungs only."""
    by_kind = {rung.kind: rung for rung in ladder_of(root).rungs}
    resigned(root, rungs=[by_kind[kind] for kind in kinds])


def labels(found) -> set[str]:
    return {hit.label for hit in found.hits}


def test_both_models_ask_and_find_what_neither_finds_alone(tmp_path, dataset, device):
    order(tmp_path, "dual", "adapter")
    photos = dataset.of("test", "query")[::3]
    right: dict[str, list[bool]] = {"new": [], "old": [], "both": []}
    with (
        served(tmp_path, version="2.0.0", name="new") as new,
        served(tmp_path, name="old") as old,
    ):
        for photo in photos:
            for name, urls in (("new", [new]), ("old", [old]), ("both", [new, old])):
                found = search_by_photo(device, urls, photo.path, k=K)
                assert [rung.kind for rung in found.rungs] == ["dual"] * (old in urls)
                right[name].append(photo.label in labels(found))
    assert all(found or not (a or b) for a, b, found in zip(*right.values(), strict=True))
    assert sum(right["both"]) > max(sum(right["new"]), sum(right["old"]))
    assert sum(right["both"]) >= 0.9 * len(photos)


def test_hits_are_merged_on_the_scale_of_the_new_gallery(tmp_path, dataset, device):
    order(tmp_path, "dual")
    photo = dataset.of("test", "query")[12].path  # its item lies in both galleries
    with (
        served(tmp_path, version="2.0.0", name="new") as new,
        served(tmp_path, name="old") as old,
    ):
        both = search_by_photo(device, [new, old], photo, k=40)
        swapped = search_by_photo(device, [old, new], photo, k=40)
        alone = search_by_photo(device, [new], photo, k=40)
        climbed = search_by_ladder(device, old, photo, k=40)
    assert both.hits == swapped.hits
    ids = [hit.id for hit in both.hits]
    assert len(ids) == len(set(ids)) == 30
    scores = [hit.score for hit in both.hits]
    assert scores == sorted(scores, reverse=True)
    ladder = ladder_of(tmp_path)
    assert (ladder.score_scale, ladder.score_shift) != (1, 0)
    given = {hit.id: hit.score for hit in alone.hits}
    for hit in climbed.answer.results[0]:
        score = max(-1.0, min(1.0, ladder.score_scale * hit.score + ladder.score_shift))
        given[hit.id] = max(given.get(hit.id, -1.0), score)
    assert {hit.id: hit.score for hit in both.hits} == pytest.approx(given)


@pytest.mark.parametrize("first", [("adapter", "dual"), ("dual", "adapter")])
def test_the_old_gallery_is_asked_in_the_signed_order(tmp_path, dataset, device, first):
    order(tmp_path, *first)
    photo = dataset.of("test", "query")[20]
    with (
        served(tmp_path, version="2.0.0", name="new") as new,
        served(tmp_path, name="old") as old,
    ):
        found = search_by_photo(device, [new, old], photo.path, k=K)
        asked = ["--home", tmp_path / "phone", "--server", new, "--server", old, photo.path]
        printed = CliRunner().invoke(search_app, [str(each) for each in (*asked, "--json")])
    assert [rung.kind for rung in found.rungs] == [first[0]]
    assert photo.label in labels(found)
    answer = json.loads(printed.stdout)
    assert (answer["rung"], len(answer["hits"])) == (first[0], K)


def test_without_the_model_before_there_is_no_dual_query(tmp_path, dataset, device, monkeypatch):
    order(tmp_path, "dual")
    monkeypatch.setattr(type(device), "previous", lambda self: None)
    photo = dataset.of("test", "query")[0].path
    with (
        served(tmp_path, version="2.0.0", name="new") as new,
        served(tmp_path, name="old") as old,
    ):
        with pytest.raises(QueryRefusedError, match="not on this device any more"):
            search_by_photo(device, [new, old], photo)
        assert search_by_photo(device, [new], photo).rungs == ()


def test_half_an_answer_is_none(tmp_path, dataset, device):
    photo = dataset.of("test", "query")[0].path
    with served(tmp_path, version="2.0.0", name="new") as new, pytest.raises(OfflineError):
        search_by_photo(device, [new, "http://127.0.0.1:1"], photo)
    with pytest.raises(UsageError, match="at least one"):
        search_by_photo(device, [], photo)
