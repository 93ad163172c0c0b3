"""An adapted member to the end: exported, verified, published, and what devices run before it."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compat.report import Report
from registry.cli import app
from registry.workspace import Workspace

LENIENT = """
[policy]
min_cross_to_paragon = 0.0
max_part_loss = 1.0
require_compatibility_rule = false
min_parity_cosine = { fp32 = 0.99, fp16 = 0.99 }
min_mean_parity_cosine = { int8 = 0.0 }
"""


def kinspace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def root(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """both.toml with the adapted member, its workspace run/ exported and verified."""
    root = tmp_path_factory.mktemp("adapted") / "set"
    shutil.copytree(shapes, root)
    family, tenant, out = root / "shapes.toml", root / "tenant", root / "run"
    for label in range(4):
        shutil.copytree(root / "images" / str(label), tenant / f"c{label}")
    for arguments in (
        ("train", family),
        ("adapt", family, "--member", "edge", "--data", tenant, "--name", "edge-tenant"),
    ):
        done = kinspace(*arguments, "--out", out)
        assert done.exit_code == 0, done.output
    section = (out / "adapted" / "edge-tenant.toml").read_text()
    head, _, _ = family.read_text().partition("[[members]]")
    (root / "both.toml").write_text(f"{head}{LENIENT}\n{section}")
    for verb in ("export", "verify"):
        done = kinspace(verb, root / "both.toml", "--out", out)
        assert done.exit_code == 0, done.output
    return root


def report_of(root: Path) -> Report:
    return Report.from_bytes(Workspace(root / "run").report_json.read_bytes())


def test_an_adapted_member_is_exported_and_measured_as_any(root: Path) -> None:
    report = report_of(root)
    assert {each.member for each in report.artifacts} == {"edge-tenant"}
    assert len(report.admitted) == 5
    fp32 = [each for each in report.artifacts if each.precision == "fp32"]
    assert all(each.parity.cosine_min > 0.999 for each in fp32)
    assert all(each.previous is None for each in report.artifacts)


def test_it_is_published_and_compared_with_what_devices_run(root: Path) -> None:
    published = kinspace(
        "publish", root / "both.toml", "--out", root / "run",
        "--registry", root / "registry", "--keys", root / "keys", "--json",
    )  # fmt: skip
    assert published.exit_code == 0, published.output
    assert len(json.loads(published.stdout)["members"]["edge-tenant"]) == 5
    for previous in (root / "run", root / "registry"):
        done = kinspace("verify", root / "both.toml", "--out", root / "run", "--previous", previous)
        assert done.exit_code == 0, done.output
        assert "against the previous release: rank 1 error" in done.stdout
        for each in report_of(root).artifacts:  # devices run these very files
            assert each.previous is not None
            assert each.previous.digest == each.digest
            assert each.previous.flips_at_10.flips == 0
            at_one = each.previous.flips_at_1
            assert at_one.error_before == at_one.error_now
            assert at_one.error_now == pytest.approx(1 - each.cross_test.hit_rate_at_1.value)


def test_a_place_without_a_release_is_named_with_its_cure(root: Path, tmp_path: Path) -> None:
    before = (root / "run" / "report" / "report.json").read_bytes()
    done = kinspace("verify", root / "both.toml", "--out", root / "run", "--previous", tmp_path)
    assert done.exit_code == 2
    assert "neither a workspace that was verified nor a registry" in done.stderr
    assert (root / "run" / "report" / "report.json").read_bytes() == before
