"""The probes that ship, and the profile that a device keeps of them."""

import json

import pytest

from compat.errors import UsageError
from edge.probes import PROBES, probe_for, profile_in


def test_every_probe_runs_and_is_another_file():
    assert len({each.digest for each in PROBES}) == len(PROBES) == 4
    found = PROBES[0].measured()
    assert found.latency_ms_p50 > 0
    assert found.probe == PROBES[0].digest


def test_fp16_is_told_in_times_of_fp32():
    assert probe_for("litert", "fp16") == probe_for("litert", "fp32") != probe_for("litert", "int8")


def test_a_profile_is_measured_once_and_again_when_something_is_another(tmp_path):
    first = profile_in(tmp_path, ("onnxruntime",))
    assert profile_in(tmp_path, ("onnxruntime",)) == first
    path = tmp_path / "profile.json"
    kept = json.loads(path.read_bytes())
    kept["probes"][0]["latency_ms_p50"] = 1e6
    path.write_text(json.dumps(kept))
    assert profile_in(tmp_path, ("onnxruntime",)).probes[0].latency_ms_p50 == 1e6  # believed
    kept["probes"][0]["runtime_version"] = "0.0.1"
    path.write_text(json.dumps(kept))
    assert profile_in(tmp_path, ("onnxruntime",)).probes[0].latency_ms_p50 < 1e6
    path.write_text("spoilt")
    assert profile_in(tmp_path, ()).probes == ()


def test_a_home_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError):
        profile_in(file / "home", ())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
