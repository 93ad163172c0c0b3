"""What an attestation may say, and when a device fails."""

import json

import pytest

from compat.attestation import Attestation, DeviceKey, Expected, failure_of, mismatch_of
from compat.errors import UntrustedError

KEY = DeviceKey(keytype="ed25519", scheme="ed25519", public="0" * 64)


def test_it_reads_back_what_it_writes_and_keeps_what_it_does_not_know(attested_as):
    tree = json.loads(attested_as(KEY).to_bytes())
    tree["battery_percent"] = 80
    again = Attestation.from_bytes(json.dumps(tree).encode())
    assert json.loads(again.to_bytes()) == tree


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("golden", "cosine_min"), float("nan")),
        (("golden", "cosine_min"), 1.5),
        (("golden", "cosine_min"), None),
        (("golden", "refused"), 16),
        (("golden", "refused"), 17),
        (("golden", "images"), 0),
        (("one_thread", "latency_ms_p50"), 0),
        (("one_thread", "latency_ms_p50"), 4.0),  # above its p95
        (("one_thread", "latency_ms_p95"), float("inf")),
        (("device_class",), "pixel\u001b[31m"),
        (("device_class",), "x" * 121),
        (("measured_at",), "2026-11-25T06:00:00"),  # of which time zone?
        (("artifact",), "../../etc/passwd"),
        (("format",), 2),
    ],
)
def test_numbers_that_cannot_be_are_refused(attested_as, place, value):
    tree = json.loads(attested_as(KEY).to_bytes())
    inner = tree if len(place) == 1 else tree[place[0]]
    inner[place[-1]] = value
    with pytest.raises(UntrustedError, match="not an attestation"):
        Attestation.from_bytes(json.dumps(tree).encode())


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ({}, None),
        ({"cosine_min": 0.97}, None),  # at the bound is enough, as in `compat.golden.admit`
        ({"cosine_min": 0.9699}, "cosine 0.9699, 0.9700 is needed"),
        ({"pixels_max_error": 4}, None),
        ({"pixels_max_error": 5}, "differs by 5 of 255"),
        ({"refused": 1}, "1 of 16 golden images"),
        ({"refused": 16, "cosine_min": None, "cosine_mean": None}, "16 of 16 golden images"),
    ],
)
def test_when_a_device_fails(attested_as, golden, words):
    reason = failure_of(attested_as(KEY, golden=golden), 0.97)
    assert reason is None if words is None else words in reason


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({}, ""),
        ({"family": "shoes"}, "not in this report"),
        ({"artifact": "c" * 64}, "artifact cccccccccccc of furniture is not in this report"),
        ({"member": "watch"}, "the device says watch litert int8"),
        ({"precision": "fp32"}, "the device says phone litert fp32"),
        ({"runtime": "onnxruntime"}, "the device says phone onnxruntime int8"),
    ],
)
def test_it_must_speak_of_an_artifact_of_the_report_by_its_names(attested_as, over, words):
    expected = {"a" * 64: Expected("phone", "litert", "int8", "a" * 64, 0.97)}
    found = mismatch_of(attested_as(KEY, **over), "furniture", expected)
    assert found == "" if not words else words in found
