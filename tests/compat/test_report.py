"""The report: its names, its bytes, and what it will not hold."""

import json

import pytest
from pydantic import ValidationError

from compat.errors import UsageError
from compat.policy import Policy
from compat.report import ArtifactTiming, Report, Timing
from compat.report_parts import Estimate
from compat.verification import verify


@pytest.fixture(scope="module")
def report(drawn):
    digest = drawn.member().digest
    cost = ArtifactTiming(
        digest=digest, latency_ms_p50=0.2, latency_ms_p95=0.3, resident_bytes=75_000_000
    )
    broken = drawn.spoilt(lambda rows: rows[:, :3], name="broken")
    return verify(
        drawn.evidence,
        drawn.cloud,
        members=[drawn.member(), broken],
        space=drawn.space,
        policy=Policy(),
        timing=Timing(machine="a test", artifacts=(cost,)),
    )


def test_bytes_and_back(report):
    assert Report.from_bytes(report.to_bytes()) == report


def test_measures_go_by_their_names(report):
    tree = json.loads(report.to_bytes())
    [artifact] = tree["artifacts"]
    tests = {"hit_rate@1", "hit_rate@10", "map", "recall@10", "r_precision", "map@r"}
    assert set(artifact["cross_test"]) == tests
    assert set(artifact["cross_minus_self"]) == {"hit_rate@1", "hit_rate@10", "map"}
    assert set(artifact["overlap@10"]) == {"value", "low", "high", "counted", "skipped"}
    assert tree["policy"]["min_parity_cosine"] == {"fp32": 0.9999, "fp16": 0.999}


def test_admitted_are_those_with_the_verdict(report):
    assert [each.member for each in report.admitted] == ["edge-s"]
    assert [each.member for each in report.unmeasured] == ["broken"]


def test_timing_is_found_by_digest(report):
    [artifact] = report.artifacts
    assert report.timing.of(artifact.digest).latency_ms_p50 == 0.2
    assert report.timing.of("0" * 64) is None
    assert artifact.label == "edge-s onnxruntime/fp32"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_attack_a_number_that_is_none_is_not_reported(bad):
    with pytest.raises(ValidationError, match="finite"):
        Estimate(value=bad, low=0, high=1, counted=1, skipped=0)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999", '"0.5"x', "null"])
def test_attack_a_report_with_a_number_that_is_none(report, literal):
    value = json.loads(report.to_bytes())["artifacts"][0]["cross_test"]["map"]["value"]
    blob = report.to_bytes().replace(
        f'"value": {value!r}'.encode(), b'"value": ' + literal.encode()
    )
    assert blob != report.to_bytes()
    with pytest.raises(UsageError, match="not a report"):
        Report.from_bytes(blob)


@pytest.mark.parametrize("blob", [b"", b"{}", b"[]", b"\xff", b'{"format": 2}', b"[" * 100_000])
def test_attack_bytes_that_are_no_report(blob):
    with pytest.raises(UsageError, match="not a report"):
        Report.from_bytes(blob)


def test_an_unknown_key_is_refused(report):
    tree = json.loads(report.to_bytes()) | {"verdict": "trust me"}
    with pytest.raises(UsageError, match="verdict"):
        Report.from_bytes(json.dumps(tree).encode())


def test_a_report_is_frozen(report):
    with pytest.raises(ValidationError):
        report.artifacts[0].verdict.admitted = True
