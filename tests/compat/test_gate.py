"""Every rule of the gate, at its edge, and in words."""

import math

import numpy as np
import pytest

from compat.errors import ConfigError
from compat.gate import find_defects, judge
from compat.policy import Policy
from compat.report import ArtifactEvidence, ArtifactTiming, Differences, Parity, Retrieval, Verdict
from compat.report_parts import Estimate
from compat.slices import SliceEvidence


def estimate(value):
    return Estimate.model_construct(
        value=value, low=value - 0.01, high=value + 0.01, counted=100, skipped=0
    )


def retrieval(hit_rate_at_10, average_precision):
    return Retrieval.model_construct(
        hit_rate_at_1=estimate(0.5),
        hit_rate_at_10=estimate(hit_rate_at_10),
        map=estimate(average_precision),
    )


def evidence(*, cross=0.6, own=0.5, hits=0.9, cosine=0.99999, precision="fp32"):
    """What the gate reads of an artifact; construction unchecked, so that NaN may be planted."""
    gap = estimate(cross - own)
    return ArtifactEvidence.model_construct(
        member="edge-s",
        runtime="onnxruntime",
        precision=precision,
        parity=Parity.model_construct(
            cosine_min=cosine, cosine_mean=cosine, centred_cosine_mean=cosine
        ),
        self_test=retrieval(0.8, own),
        cross_test=retrieval(hits, cross),
        cross_minus_self=Differences.model_construct(
            hit_rate_at_1=gap, hit_rate_at_10=gap, map=gap
        ),
        verdict=Verdict(compatible=True, admitted=True, reasons=()),
    )


PARAGON = retrieval(0.95, 0.7)


def test_a_good_artifact_is_admitted_without_a_word():
    verdict = judge(evidence(), PARAGON, Policy())
    assert (verdict.compatible, verdict.admitted, verdict.reasons) == (True, True, ())
    assert [(each.rule, each.status) for each in verdict.outcomes] == [
        ("compatibility", "passed"),
        ("near-paragon", "passed"),
        ("parity", "passed"),
        ("no-part-lost", "passed"),
    ]


def test_attack_gallery_vectors_that_mean_nothing():
    verdict = judge(evidence(cross=0.112, own=0.310), PARAGON, Policy())
    assert not verdict.compatible
    assert not verdict.admitted
    assert verdict.reasons == (
        "cross-test mAP 0.112 is not above self-test mAP 0.310 (difference -0.1980, 95% interval "
        "-0.2080 to -0.1880): gallery vectors mean nothing to this model",
    )


def test_a_near_miss_is_not_called_meaningless():
    [reason] = judge(evidence(cross=0.507, own=0.547), PARAGON, Policy()).reasons
    assert reason.endswith("serves this model no better than one of its own embeddings")


def test_equality_is_not_compatibility():
    verdict = judge(evidence(cross=0.5, own=0.5), PARAGON, Policy())
    assert not verdict.compatible
    assert len(verdict.reasons) == 1


def test_the_point_estimate_decides_however_wide_the_interval():
    assert judge(evidence(cross=0.5001, own=0.5), PARAGON, Policy()).admitted


@pytest.mark.parametrize(("hits", "admitted"), [(0.855, True), (0.8549, False), (0.0, False)])
def test_nine_tenths_of_the_paragon_are_enough(hits, admitted):
    verdict = judge(evidence(hits=hits), PARAGON, Policy())
    assert verdict.admitted is admitted
    assert verdict.compatible
    if not admitted:
        assert f"cross-test hit_rate@10 {hits:.4f} is below 0.8550" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("precision", "enough"), [("fp32", 0.9999), ("fp16", 0.999), ("int8", 0.98)]
)
def test_parity_has_its_bound_for_each_precision(precision, enough):
    good = evidence(precision=precision, cosine=enough)
    bad = evidence(precision=precision, cosine=enough - 1e-5)
    assert judge(good, PARAGON, Policy()).admitted
    [reason] = judge(bad, PARAGON, Policy()).reasons
    assert f"{precision} needs {enough}" in reason


def test_a_precision_without_a_bound_is_refused():
    policy = Policy(min_parity_cosine={"fp32": 0.9999}, min_mean_parity_cosine={})
    [reason] = judge(evidence(precision="int8"), PARAGON, policy).reasons
    assert reason == "the policy sets no parity bound for int8"


def test_every_reason_is_given_and_not_only_the_first():
    verdict = judge(evidence(cross=0.1, own=0.3, hits=0.2, cosine=0.4), PARAGON, Policy())
    assert [reason.split()[0] for reason in verdict.reasons] == [
        "cross-test",
        "cross-test",
        "parity",
    ]


@pytest.mark.parametrize("planted", ["cross", "own", "hits", "cosine"])
def test_attack_nan_passes_no_rule(planted):
    """Every comparison with NaN is false: a gate that asks for badness would let it in."""
    verdict = judge(evidence(**{planted: math.nan}), PARAGON, Policy())
    assert not verdict.admitted
    assert verdict.reasons


@pytest.mark.parametrize("hits", [0.0, math.nan])
def test_attack_a_paragon_that_finds_nothing_admits_nobody(hits):
    """Nine tenths of nothing is nothing: everyone would pass."""
    [reason] = judge(evidence(hits=0.0), retrieval(hits, 0.7), Policy()).reasons
    assert "the cloud model itself finds nothing" in reason


def test_the_verdict_that_came_along_is_not_believed():
    claimed = evidence(cross=0.1, own=0.3)
    assert claimed.verdict.admitted
    assert not judge(claimed, PARAGON, Policy()).admitted


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_good_embeddings_have_no_defect():
    rows = unit(np.random.default_rng(0).normal(size=(20, 8)))
    assert find_defects(rows, rows=20, dim=8) == ()
    assert find_defects(rows[:1], rows=1, dim=8) == ()


def test_a_narrow_cone_is_not_yet_collapse():
    rows = unit(10 + 0.5 * np.random.default_rng(0).normal(size=(20, 8)))
    assert find_defects(rows, rows=20, dim=8) == ()


def test_defects_are_named():
    rows = unit(np.random.default_rng(0).normal(size=(20, 8)))
    assert "shape (20, 8)" in find_defects(rows, rows=20, dim=9)[0]
    assert "shape (20, 8)" in find_defects(rows, rows=21, dim=8)[0]
    spoilt = rows.copy()
    spoilt[[3, 4], 0] = np.nan, np.inf
    assert "2 of 20 embeddings are not finite" in find_defects(spoilt, rows=20, dim=8)[0]
    assert "norms 2 to 2" in find_defects(rows * 2, rows=20, dim=8)[0]
    flat = unit(np.ones((20, 8)) + 1e-4 * rows)
    assert "collapsed" in find_defects(flat, rows=20, dim=8)[0]


def with_rules(*rules, **more):
    return Policy(rules=[{"name": f"own-{n}", **rule} for n, rule in enumerate(rules)], **more)


@pytest.mark.parametrize(
    ("bound", "status"),
    [
        ({"min": 0.59}, "passed"),  # cross mAP 0.6, interval 0.59 to 0.61
        ({"min": 0.60}, "undecided"),
        ({"min": 0.62}, "failed"),
        ({"max": 0.61}, "passed"),
        ({"max": 0.60}, "undecided"),
        ({"max": 0.58}, "failed"),
    ],
)
def test_a_rule_speaks_of_the_whole_interval(bound, status):
    policy = with_rules({"measure": "cross_test.map", **bound})
    verdict = judge(evidence(), PARAGON, policy)
    [outcome] = [each for each in verdict.outcomes if each.rule == "own-0"]
    assert outcome.status == status
    assert verdict.admitted is (status == "passed")
    if status != "passed":
        assert verdict.reasons == (outcome.words,)
        assert "cross_test.map is 0.6 (95% interval 0.59 to 0.61)" in outcome.words


@pytest.mark.parametrize(
    ("gap", "status"), [(0.008, "passed"), (0.003, "undecided"), (-0.02, "failed")]
)
def test_non_inferior_is_about_what_may_be_lost(gap, status):
    """The gap's interval is 0.01 wide to either side; 0.005 may be lost."""
    policy = with_rules(
        {"measure": "cross_minus_self.map", "non_inferior_by": 0.005},
        require_compatibility_rule=False,
    )
    [outcome] = judge(evidence(cross=0.5 + gap, own=0.5), PARAGON, policy).outcomes[-1:]
    assert outcome.status == status
    assert "must be not below -0.005 with its whole interval" in outcome.words
    assert "100 queries resolve about 0.01" in outcome.words


def test_a_rule_speaks_of_the_artifacts_that_it_selects():
    policy = with_rules({"measure": "parity.cosine_mean", "min": 1.0, "precision": "int8"})
    assert judge(evidence(), PARAGON, policy).admitted
    assert not judge(evidence(precision="int8"), PARAGON, policy).admitted


def test_timing_is_a_measure_too():
    policy = with_rules({"measure": "timing.latency_ms_p95", "max": 2.0})
    slow = ArtifactTiming(digest="a" * 64, latency_ms_p50=1.0, latency_ms_p95=3.0, resident_bytes=1)
    [reason] = judge(evidence(), PARAGON, policy, timing=slow).reasons
    assert reason == "timing.latency_ms_p95 is 3, must be at most 2"


def test_attack_an_unknown_measure_is_no_rule_that_passes():
    policy = with_rules({"measure": "cross_test.hitrate", "min": 0.0})
    with pytest.raises(ConfigError, match=r"no measure 'cross_test.hitrate'; known: cross_minus"):
        judge(evidence(), PARAGON, policy)


@pytest.mark.parametrize("bound", [{"min": 0.0}, {"max": 1.0}, {"non_inferior_by": 1.0}])
def test_attack_nan_passes_no_rule_of_a_team(bound):
    policy = with_rules({"measure": "cross_test.map", **bound}, require_compatibility_rule=False)
    [outcome] = judge(evidence(cross=math.nan), PARAGON, policy).outcomes[-1:]
    assert outcome.status == "undecided"


def test_an_override_admits_and_says_who_and_why():
    policy = Policy(
        overrides=[{"rule": "compatibility", "reason": "pilot with ten users", "signer": "M. Ruiz"}]
    )
    verdict = judge(evidence(cross=0.4, own=0.5), PARAGON, policy)
    assert verdict.admitted
    assert not verdict.compatible  # the fact stays
    [outcome] = [each for each in verdict.outcomes if each.status == "overridden"]
    assert outcome.override.signer == "M. Ruiz"
    assert "is not above self-test" in outcome.words


def test_an_override_of_one_rule_is_none_of_another():
    policy = Policy(
        overrides=[{"rule": "parity", "reason": "known and accepted", "signer": "M. Ruiz"}]
    )
    verdict = judge(evidence(cross=0.4, own=0.5), PARAGON, policy)
    assert not verdict.admitted
    assert [each.status for each in verdict.outcomes] == ["failed", *["passed"] * 3]


def part(name, cross, *, queries=40, half=0.05, deciding=True):
    column, value = name.split("=")
    lost = cross - 0.9
    gap = Estimate(value=lost, low=lost - half, high=lost + half, counted=queries, skipped=0)
    return SliceEvidence(
        artifact="a" * 64,
        column=column,
        value=value,
        cross_hit_rate_at_10=estimate(cross),
        paragon_hit_rate_at_10=estimate(0.9),
        difference=gap,
        p_adjusted=0.01,
        is_deciding=deciding,
    )


def test_attack_a_part_that_is_lost_behind_a_good_mean():
    slices = [part("room=bath", 0.1), part("room=hall", 0.88), part("x=y", 0.0, deciding=False)]
    verdict = judge(evidence(), PARAGON, Policy(), slices=slices)
    [reason] = verdict.reasons
    assert reason.startswith("on room=bath hit_rate@10 is 0.100 where the paragon has 0.900 (40")
    assert judge(evidence(), PARAGON, Policy(max_part_loss=0.9), slices=slices).admitted


def test_a_rule_on_a_part_of_the_test_set():
    slices = [part("room=bath", 0.8), part("room=hall", 0.6), part("x=y", 0.0, deciding=False)]

    def judged(name):
        rule = {"measure": "difference", "slice": name, "non_inferior_by": 0.2}
        outcomes = judge(evidence(), PARAGON, with_rules(rule), slices=slices).outcomes
        return [each.status for each in outcomes if each.rule == "own-0"]

    assert judged("room=bath") == ["passed"]
    assert judged("room=hall") == ["failed"]
    assert judged("x=y") == ["undecided"]
    assert judged("*") == ["passed", "failed"]
    with pytest.raises(ConfigError, match="no part 'room=bat': room=bath, room=hall, x=y"):
        judged("room=bat")
