"""A comparison of two reports says what changed, and nothing that only noise explains."""

import json

import pytest

from compat.policy import Policy
from compat.report_diff import ReportDiff, diff_reports
from compat.report_diff_words import diff_words

HIT = "cross_test.hit_rate@10"


def with_artifact(report, place=0, **update):
    changed = list(report.artifacts)
    changed[place] = changed[place].model_copy(update=update)
    return report.model_copy(update={"artifacts": tuple(changed)})


def moved(retrieval, by):
    hit = retrieval.hit_rate_at_10
    shifted = hit.model_copy(
        update={"value": hit.value + by, "low": hit.low + by, "high": hit.high + by}
    )
    return retrieval.model_copy(update={"hit_rate_at_10": shifted})


def test_a_report_equals_itself(drawn_report):
    diff = diff_reports(drawn_report, drawn_report)
    assert not diff.is_changed
    assert diff_words(diff).endswith("nothing changed beyond the intervals")
    assert [each.label for each in diff.artifacts] == [
        "edge-s onnxruntime/fp32", "tiny onnxruntime/fp32", "broken onnxruntime/fp32",
    ]  # fmt: skip


def test_a_change_within_the_interval_is_noise_and_beyond_it_is_told(drawn_report):
    tested = drawn_report.artifacts[1].cross_test
    width = tested.hit_rate_at_10.high - tested.hit_rate_at_10.low
    assert width > 0
    near = with_artifact(drawn_report, 1, cross_test=moved(tested, -width / 10))
    assert not diff_reports(drawn_report, near).is_changed
    far = with_artifact(drawn_report, 1, cross_test=moved(tested, -2 * width))
    [change] = [each for each in diff_reports(drawn_report, far).artifacts if each.is_changed]
    [measure] = change.measures
    assert change.label == "tiny onnxruntime/fp32"
    assert measure.measure == HIT
    assert measure.is_better is False
    [back] = [each for each in diff_reports(far, drawn_report).artifacts if each.is_changed]
    assert back.measures[0].is_better is True
    assert f"{HIT} " in diff_words(diff_reports(drawn_report, far))


def test_bytes_verdicts_rules_and_files(drawn_report):
    old = drawn_report.artifacts[0]
    outcomes = tuple(
        each.model_copy(update={"status": "failed", "words": "is 0.2"})
        if each.rule == "near-paragon"
        else each
        for each in old.verdict.outcomes
    )
    verdict = old.verdict.model_copy(update={"admitted": False, "outcomes": outcomes})
    after = with_artifact(
        drawn_report, verdict=verdict, size_bytes=old.size_bytes + 1, digest="e" * 64
    )
    diff = diff_reports(drawn_report, after)
    change = diff.artifacts[0]
    assert (change.before, change.after, change.file_changed) == ("admitted", "refused", True)
    assert [(rule.rule, rule.before, rule.after) for rule in change.rules] == [
        ("near-paragon", "passed", "failed")
    ]
    assert [(m.measure, m.is_better) for m in change.measures] == [("size_bytes", False)]
    words = diff_words(diff)
    assert "edge-s onnxruntime/fp32: admitted -> refused" in words
    assert "rule near-paragon: passed -> failed: is 0.2" in words
    assert "size_bytes 1,600,000 -> 1,600,001 (worse)" in words


def test_artifacts_that_came_and_went(drawn_report):
    fewer = drawn_report.model_copy(update={"artifacts": drawn_report.artifacts[:1]})
    assert [each.label for each in diff_reports(drawn_report, fewer).removed] == [
        "tiny onnxruntime/fp32"
    ]
    [new] = diff_reports(fewer, drawn_report).added
    assert (new.label, new.verdict) == ("tiny onnxruntime/fp32", "refused")


def test_other_images_are_not_compared(drawn_report):
    tested = drawn_report.artifacts[0].cross_test
    after = with_artifact(drawn_report, cross_test=moved(tested, -0.9), macs=1)
    evidence = drawn_report.evidence.model_copy(update={"dataset_digest": "f" * 64})
    diff = diff_reports(drawn_report, after.model_copy(update={"evidence": evidence}))
    assert not diff.same_images
    assert [each.measure for each in diff.artifacts[0].measures] == ["macs"]
    assert diff.paragon == ()
    assert "measured on other images (dddddddddddd -> ffffffffffff)" in diff_words(diff)


def test_cosines_of_another_space_are_not_compared(drawn_report):
    error = drawn_report.artifacts[0].embedding_error
    worse = error.centred.model_copy(update={"value": 9.0, "low": 8.9, "high": 9.1})
    after = with_artifact(drawn_report, embedding_error=error.model_copy(update={"centred": worse}))
    same = diff_reports(drawn_report, after)
    assert [each.measure for each in same.artifacts[0].measures] == ["embedding_error.centred"]
    space = drawn_report.space.model_copy(update={"generation": 2})
    other = diff_reports(drawn_report, after.model_copy(update={"space": space}))
    assert other.artifacts[0].measures == ()
    assert "another embedding space" in diff_words(other)


@pytest.mark.parametrize(
    ("p50", "p95", "told"),
    [(2.4, 3.0, False), (2.6, 3.0, True), (1.0, 1.9, True), (1.8, 2.1, False)],
)
def test_milliseconds_count_beyond_the_tail(drawn_report, p50, p95, told):
    """Before: p50 2.0, p95 2.5."""
    [clock] = drawn_report.timing.artifacts
    clock = clock.model_copy(update={"latency_ms_p50": p50, "latency_ms_p95": p95})
    timing = drawn_report.timing.model_copy(update={"artifacts": (clock,)})
    diff = diff_reports(drawn_report, drawn_report.model_copy(update={"timing": timing}))
    assert bool(diff.artifacts[0].measures) is told
    elsewhere = timing.model_copy(update={"machine": "another"})
    diff = diff_reports(drawn_report, drawn_report.model_copy(update={"timing": elsewhere}))
    assert diff.artifacts[0].measures == ()
    assert "another machine" in diff_words(diff)


def test_another_policy_and_cloud_are_said(drawn_report):
    cloud = drawn_report.cloud.model_copy(update={"digest": "b" * 64})
    after = drawn_report.model_copy(update={"policy": Policy(), "cloud": cloud})
    words = diff_words(diff_reports(drawn_report, after))
    assert "another policy" in words
    assert "another cloud model" in words


def test_json_says_the_same(drawn_report):
    fewer = drawn_report.model_copy(update={"artifacts": drawn_report.artifacts[:1]})
    diff = diff_reports(drawn_report, fewer)
    assert ReportDiff.model_validate(json.loads(diff.model_dump_json())) == diff
