"""How a publisher tells what an artifact costs."""

from compat.manifest import Artifact
from compat.report import ArtifactTiming, ProbeTiming, Timing
from registry.running_costs import with_costs


def test_costs_are_told_in_times_of_the_probe_of_that_runtime_and_precision():
    artifact = Artifact(
        digest="a" * 64, size_bytes=1, runtime="litert", precision="fp16", admission_cosine=0.9
    )
    took = ArtifactTiming(digest="a" * 64, latency_ms_p50=6, latency_ms_p95=9, resident_bytes=7)
    probes = tuple(
        ProbeTiming(digest=f"{n}" * 64, runtime=runtime, precision=precision, latency_ms_p50=n)
        for n, (runtime, precision) in enumerate(
            [("litert", "int8"), ("onnxruntime", "fp32"), ("litert", "fp32")], start=1
        )
    )
    timing = Timing(machine="m", artifacts=(took,), probes=probes)
    found = with_costs(artifact, timing)
    assert (found.latency.probe, found.latency.ratio) == ("3" * 64, 2.0)
    assert found.resident_bytes == 7
    assert with_costs(artifact, Timing(machine="m", artifacts=(), probes=probes)) == artifact
    untold = with_costs(artifact, Timing(machine="m", artifacts=(took,)))
    assert (untold.latency, untold.resident_bytes) == (None, 7)
