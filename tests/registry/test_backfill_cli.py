"""A gallery's life by the commands that people type: build, backfill, status, rollback, accept."""

import json
from pathlib import Path

import pytest
from tiles import SPACE, candidate, model, tiles_in
from typer.testing import CliRunner

from compat.files import digest_of
from registry.cli_gallery import gallery_app
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import Repository

OLD, NEW = model(0.0), model(0.4)


@pytest.fixture
def root(tmp_path) -> Path:
    """A gallery g/ that 1.0.0 embedded, in a registry whose stable release is 1.1.0 now."""
    tiles_in(tmp_path / "data")
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family(SPACE.family)
    for version, cloud in (("1.0.0", OLD), ("1.1.0", NEW)):
        members = {"small": model(0.01)}
        made = candidate(tmp_path / "data", version=version, cloud=cloud, members=members)
        publish(repository, made)
        if version == "1.0.0":
            assert run(tmp_path, "build", *release(tmp_path)).exit_code == 0
    return tmp_path


def release(root: Path) -> tuple[object, ...]:
    where = ("--registry", root / "registry", "--family", SPACE.family)
    return (*where, "--data", root / "data")


def run(root: Path, verb: str, *more: object):
    arguments = [verb, "--gallery", root / "g", *more]
    return CliRunner().invoke(gallery_app, [str(each) for each in arguments])


def generations(root: Path) -> list[tuple[str, int]]:
    [held] = json.loads(run(root, "status", "--json").stdout)
    return [(each["model_digest"], each["rows"]) for each in held["generations"]]


def test_backfill_status_rollback_accept(root):
    told = run(root, "backfill", *release(root), "--queries", root / "data", "--batch", 9, "--json")
    assert told.exit_code == 0, told.output
    steps = [json.loads(line) for line in told.stdout.splitlines()]
    assert [step["done"] for step in steps] == [0, 4, 13, 22, 31, 40]
    assert {step["total"] for step in steps} == {40}
    assert all(0 <= step["hit_rate_at_10"] <= 1 for step in steps)
    assert generations(root) == [(digest_of(NEW), 40)]
    assert "40 by" in run(root, "status").stdout
    undone = run(root, "rollback")
    assert undone.exit_code == 0, undone.output
    assert f"before the backfill to {digest_of(NEW)[:16]}" in undone.stdout
    assert generations(root) == [(digest_of(OLD), 40)]
    nothing = run(root, "rollback")
    assert (nothing.exit_code, "no backfill" in nothing.stderr) == (2, True)
    again = run(root, "backfill", *release(root))
    assert "kinspace gallery rollback undoes it" in again.stdout
    assert "1 backfills" in run(root, "accept").stdout
    assert run(root, "rollback").exit_code == 2


def test_another_data_set_is_named_and_nothing_changes(root):
    tiles_in(root / "fewer", 3)
    refused = run(root, "backfill", *release(root)[:-1], root / "fewer")
    assert refused.exit_code == 2
    assert "37 of 40 gallery items" in refused.stderr
    assert generations(root) == [(digest_of(OLD), 40)]
