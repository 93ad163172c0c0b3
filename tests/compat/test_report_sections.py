"""The page's sections: each is there with its numbers when the report has it, and else is not."""

import base64
import re

import pytest

from compat.drawing import CROSS, INK, PARAGON
from compat.flip_strips import FlipStrips, draw_strips, worst_admitted
from compat.plots_evidence import curves, score_panels
from compat.policy import Outcome, Override
from compat.report_page import render_page
from compat.score_histogram import BINS, ScoreHistogram

HOSTILE = "<script>alert(1)</script>\"'</td>{{ 7 * 7 }}"
SECTIONS = {
    "slices": ("Where it hurts", "light=dim", "−20.0", "surely loses"),
    "attestations": ("What devices measured", "pixel-8", "golden cosine is 0.31", "y.json"),
    "diagnosis": ("Where a difference enters", "edge int8", "conv_1", "swap them back"),
    "stress": ("Under stress", "The same image again", "stripes"),
}


@pytest.fixture(scope="module")
def page(full_report):
    return render_page(full_report)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_shown_exactly_when_the_report_has_it(page, full_report, section):
    without = render_page(full_report.model_copy(update={section: None}))
    title, *words = SECTIONS[section]
    assert all(word in page for word in (title, *words))
    assert title not in without


def test_an_override_stands_in_red_with_signer_and_reason(page):
    assert "1 rule overridden" in page or "rules overridden" in page
    assert re.search(r'class="override">Overridden by M. Ruiz: a pilot of ten phones', page)
    assert "admitted by override" in page


def test_every_mark_has_a_title_and_a_legend(page):
    marks = re.findall(r'<span class="mark (\w+)" title="([^"]+)"', page)
    assert {kind for kind, _ in marks} == {"here", "device", "declared"}
    assert "Where a number comes from" in page


def test_the_same_report_gives_the_same_bytes_and_asks_nobody(page, full_report):
    assert render_page(full_report) == page
    assert "://" not in page
    assert "<script" not in page
    assert len(re.findall(r'\bid="', page)) == len(set(re.findall(r'\bid="([^"]+)"', page)))


def test_attack_words_of_devices_and_signers_that_are_markup(full_report):
    artifact = full_report.artifacts[0]
    waived = Outcome(
        rule="fast",
        status="overridden",
        words=HOSTILE,
        override=Override(rule="fast", reason=HOSTILE, signer=HOSTILE),
    )
    verdict = artifact.verdict.model_copy(update={"outcomes": (waived,)})
    [device] = full_report.attestations.classes
    device = device.model_copy(update={"device_class": HOSTILE, "provenance": HOSTILE})
    stress = full_report.stress
    point = stress.curves[0].model_copy(update={"model": HOSTILE})
    hostile = full_report.model_copy(
        update={
            "artifacts": (artifact.model_copy(update={"verdict": verdict}),),
            "attestations": full_report.attestations.model_copy(update={"classes": (device,)}),
            "diagnosis": full_report.diagnosis.model_copy(update={"suggestion": HOSTILE}),
            "stress": stress.model_copy(update={"curves": (point, *stress.curves[1:])}),
        }
    )
    page = render_page(hostile)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6


def test_scores_show_every_model_and_its_threshold(full_report):
    svg = score_panels(full_report)
    assert score_panels(full_report) == svg
    for each in full_report.artifacts:
        assert f"{each.member} {each.runtime}/{each.precision}" in svg
    assert f"{full_report.cloud.name} (paragon)" in svg
    assert all(stand_in not in svg for stand_in in (INK, CROSS, PARAGON))
    bare = full_report.model_copy(
        update={
            "cloud": full_report.cloud.model_copy(update={"scores": None}),
            "artifacts": tuple(
                each.model_copy(update={"scores": None}) for each in full_report.artifacts
            ),
        }
    )
    assert score_panels(bare) is None


def test_a_histogram_without_genuine_pairs_is_drawn(full_report):
    empty = ScoreHistogram(queries=1, genuine=(0,) * BINS, impostor=(0,) * BINS)
    cloud = full_report.cloud.model_copy(update={"scores": empty})
    assert "svg" in score_panels(full_report.model_copy(update={"cloud": cloud, "artifacts": ()}))


def test_curves_have_a_panel_for_each_corruption(full_report):
    svg = curves(full_report.stress)
    assert curves(full_report.stress) == svg
    for corruption in {each.corruption for each in full_report.stress.curves if each.level}:
        assert f">{corruption}" in svg


def test_strips_show_what_flipped(drawn, full_report):
    strips = draw_strips(full_report, drawn.evidence)
    worst = worst_admitted(full_report)
    assert strips.digest == worst.digest
    assert len(strips.strips) == len(worst.flips.examples) > 0
    for each, example in zip(strips.strips, worst.flips.examples, strict=True):
        assert each.query.label == drawn.evidence.queries.labels[example.query]
        assert each.cloud[0].is_relevant
        assert not each.member[0].is_relevant
        assert base64.b64decode(each.query.jpeg).startswith(b"\xff\xd8")
    page = render_page(full_report, flips=strips)
    assert page.count("data:image/jpeg;base64,") == 7 * len(strips.strips)
    assert FlipStrips.from_bytes(strips.to_bytes()) == strips
    assert draw_strips(full_report, drawn.evidence) == strips


def test_strips_of_another_data_set_or_a_refused_artifact_are_not_shown(drawn, full_report):
    strips = draw_strips(full_report, drawn.evidence)
    assert strips.shows(full_report)
    other = full_report.evidence.model_copy(update={"dataset_digest": "e" * 64})
    assert not strips.shows(full_report.model_copy(update={"evidence": other}))
    assert not strips.shows(full_report.model_copy(update={"artifacts": ()}))
    assert draw_strips(full_report.model_copy(update={"artifacts": ()}), drawn.evidence) is None
