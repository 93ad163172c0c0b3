"""The rows of the page's tables: what is told, in which order, and what is left blank."""

import pytest

from compat.policy import Outcome, Override
from compat.report_tables import matrix_of_tests, objections, overrides, slice_rows, tone
from compat.slices import SliceSection


def test_the_matrix_has_the_paragon_first_and_query_models_below(full_report):
    first, second, *_ = matrix_of_tests(full_report)
    assert first.is_paragon
    assert first.own == first.cloud == full_report.cloud.paragon.map
    assert second.query_model == full_report.artifacts[0].label
    assert second.own == full_report.artifacts[0].self_test.map
    assert second.cloud == full_report.artifacts[0].cross_test.map


def test_parts_stand_over_artifacts_and_classes_come_last(full_report):
    one, other = (each.digest for each in full_report.artifacts)
    cells = full_report.slices.rows
    by_class = cells[0].model_copy(update={"column": "class", "value": "a"})
    only_other = cells[0].model_copy(update={"value": "dusk", "artifact": other})
    section = SliceSection(rows=(by_class, *cells, only_other), too_small=0)
    rows = slice_rows(full_report.model_copy(update={"slices": section}))
    assert [row.name for row in rows] == ["light=dim", "light=dusk", "class=a"]
    assert [row.is_class for row in rows] == [False, False, True]
    assert rows[1].cells == (None, only_other)
    assert rows[2].cells[0] == by_class
    assert by_class.artifact == one
    assert slice_rows(full_report.model_copy(update={"slices": None})) == ()


@pytest.mark.parametrize(
    ("high", "p", "deciding", "expected"),
    [
        (-0.01, 0.01, True, "lost"),
        (-0.01, 0.2, True, ""),  # looked at among many: not sure
        (0.0, 0.01, True, ""),
        (-0.01, 0.01, False, "unsure"),
    ],
)
def test_a_part_is_red_only_when_it_surely_loses(full_report, high, p, deciding, expected):
    cell = full_report.slices.rows[0]
    difference = cell.difference.model_copy(update={"high": high})
    change = {"difference": difference, "p_adjusted": p, "is_deciding": deciding}
    assert tone(cell.model_copy(update=change)) == expected


def test_objections_leave_out_what_passed_and_keep_overrides(full_report):
    passed = Outcome(rule="parity", status="passed", words="")
    override = Override(rule="fast", reason="the old phones go", signer="Ada")
    waived = Outcome(rule="fast", status="overridden", words="5 ms", override=override)
    artifact = full_report.artifacts[0]
    verdict = artifact.verdict.model_copy(update={"admitted": True, "outcomes": (passed, waived)})
    fine = artifact.verdict.model_copy(update={"admitted": True, "outcomes": (passed,)})
    changed = full_report.model_copy(
        update={
            "unmeasured": (),
            "artifacts": (
                artifact.model_copy(update={"verdict": verdict}),
                artifact.model_copy(update={"verdict": fine}),
            ),
        }
    )
    [found] = objections(changed)
    assert (found.is_admitted, found.outcomes) == (True, (waived,))
    assert overrides(changed) == 1
