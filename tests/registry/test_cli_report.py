"""``kinspace report show | diff | markdown | html``, as a user runs them, on a small report."""

import json

import pytest
from typer.testing import CliRunner

from compat.flip_strips import FlipStrip, FlipStrips, Tile
from compat.report import Report
from compat.report_markdown import render_markdown
from compat.report_page import render_page
from registry.cli import app
from registry.report_files import report_at, write_report
from registry.workspace import Workspace

SOME = {"value": 0.9, "low": 0.8, "high": 1.0, "counted": 10, "skipped": 0}
THREE = dict.fromkeys(("hit_rate@1", "hit_rate@10", "map"), SOME)
RETRIEVAL = THREE | dict.fromkeys(("recall@10", "r_precision", "map@r"), SOME)
COSTS = {"size_bytes": 9, "macs": 9, "params": 9}


@pytest.fixture
def small_report() -> Report:
    """One admitted artifact."""
    evidence = {
        **COSTS,
        "member": "edge-s",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "digest": "1" * 64,
        "parity": {"cosine_min": 1.0, "cosine_mean": 1.0, "centred_cosine_mean": 1.0},
        "self_test": RETRIEVAL,
        "cross_test": RETRIEVAL,
        "cross_minus_self": THREE,
        "cross_minus_paragon": THREE,
        "overlap@10": SOME,
        "rank_biased_overlap": SOME,
        "flips": {
            "flips": 0,
            "positive_flips": 0,
            "negative_flip_rate": SOME,
            "relative_nfr": None,
        },
        "acceptance": None,
        "embedding_error": {"margin_normalised": SOME, "centred": SOME},
        "resolvable": {"hit_rate@1": 0.01, "hit_rate@10": 0.01, "map": 0.01},
        "cross_above_self_p": 0.01,
        "amortised_macs": 9.0,
        "verdict": {"compatible": True, "admitted": True, "reasons": []},
    }
    whole = {
        "family": "furniture",
        "space": {"family": "furniture", "generation": 1, "dim": 4},
        "evidence": {
            "dataset_digest": "0" * 64,
            "split": "test",
            "queries": 9,
            "gallery": 9,
            "classes": 3,
        },
        "cloud": {"name": "cloud", "digest": "c" * 64, "paragon": RETRIEVAL, **COSTS},
        "artifacts": [evidence],
        "policy": {},
        "timing": {"machine": "a test", "artifacts": []},
    }
    return Report.from_bytes(json.dumps(whole).encode())


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def workspace(small_report: Report, tmp_path) -> Workspace:
    workspace = Workspace(tmp_path / "ours")
    write_report(workspace, small_report)
    return workspace


def test_a_report_is_written_in_all_its_forms(workspace, small_report):
    assert Report.from_bytes(workspace.report_json.read_bytes()) == small_report
    assert workspace.report_html.read_text() == render_page(small_report)
    assert workspace.report_markdown.read_text() == render_markdown(small_report)
    assert report_at(workspace.root) == report_at(workspace.report_json) == small_report


def test_show_markdown_and_html(run, workspace, small_report, tmp_path):
    assert "edge-s" in run("show", workspace.root).stdout
    shown = run("show", workspace.report_json, "--json").stdout
    assert Report.from_bytes(shown.encode()) == small_report
    assert run("markdown", workspace.root).stdout == render_markdown(small_report)
    out = tmp_path / "again.html"
    assert run("html", workspace.report_json, "--out", out).exit_code == 0
    assert out.read_text() == render_page(small_report)


def test_diff_in_words_and_json(run, workspace, small_report, tmp_path):
    other = Workspace(tmp_path / "theirs")
    write_report(other, small_report.model_copy(update={"artifacts": ()}))
    done = run("diff", workspace.root, other.report_json)
    assert done.exit_code == 0
    assert "gone: edge-s onnxruntime/fp32, was admitted" in done.stdout
    found = json.loads(run("diff", workspace.root, other.root, "--json").stdout)
    assert [each["label"] for each in found["removed"]] == ["edge-s onnxruntime/fp32"]


@pytest.mark.parametrize("blob", [None, b"{}", b"\xff"])
def test_what_is_no_report_is_refused_by_name(run, workspace, tmp_path, blob):
    file, out = tmp_path / "spoilt.json", tmp_path / "page.html"
    if blob is not None:
        file.write_bytes(blob)
    for arguments in (("show", file), ("diff", workspace.root, file), ("html", file, "--out", out)):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "spoilt.json" in done.stderr
        assert len(done.stderr) < 500
    assert not out.exists()


def test_pictures_beside_the_report_are_shown_until_they_are_of_another(
    run, workspace, small_report, tmp_path
):
    out = tmp_path / "page.html"
    tile = Tile(label="chair", is_relevant=True, jpeg="/9j/")
    strips = FlipStrips(
        artifact="edge-s onnxruntime/fp32",
        digest="1" * 64,
        dataset_digest="0" * 64,
        strips=(FlipStrip(query=tile, cloud=(tile,), member=(tile,)),),
    )
    write_report(workspace, small_report, strips)
    write_report(workspace, small_report)  # by a verb that has no images at hand
    assert workspace.report_html.read_text().count("data:image/jpeg") == 3
    assert run("html", workspace.root, "--out", out).exit_code == 0
    assert out.read_text() == workspace.report_html.read_text()

    damaged = b"{"
    for stale in (damaged, strips.model_copy(update={"dataset_digest": "e" * 64}).to_bytes()):
        workspace.flip_strips.write_bytes(stale)
        write_report(workspace, small_report)
        assert workspace.report_html.read_text() == render_page(small_report)
        assert workspace.flip_strips.read_bytes() == stale
