"""What an artifact costs to run, told so that another machine can use it."""

from compat.manifest import Artifact, RelativeLatency
from compat.report import Timing
from edge.probes import probe_for


def with_costs(artifact: Artifact, timing: Timing) -> Artifact:
    """``artifact`` with its latency in times of its probe's, and its memory, as they were measured.

    As it is where the report has no timing of it, or none of its probe.
    """
    cost = timing.of(artifact.digest)
    if cost is None:
        return artifact
    wanted = probe_for(artifact.runtime, artifact.precision)
    ratios = [
        RelativeLatency(
            probe=each.digest, ratio=round(cost.latency_ms_p50 / each.latency_ms_p50, 4)
        )
        for each in timing.probes
        if (each.runtime, each.precision) == (wanted.runtime, wanted.precision)
    ]
    return artifact.model_copy(
        update={
            "latency": ratios[0] if ratios else None,
            "resident_bytes": cost.resident_bytes,
        }
    )
