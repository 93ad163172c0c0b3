"""What a device is, as far as a choice asks: runtimes, memory, and how fast it runs the probes."""

from pydantic import BaseModel, ConfigDict, Field

from compat.attestation import Hardware
from compat.manifest import Artifact, Digest, Precision, Runtime


class ProbeTime(BaseModel):
    """How long one probe takes: batch 1, one thread, a process of its own."""

    model_config = ConfigDict(frozen=True)

    probe: Digest
    runtime: Runtime
    runtime_version: str
    precision: Precision
    latency_ms_p50: float = Field(gt=0, allow_inf_nan=False)


class DeviceProfile(BaseModel):
    """One device; two with equal profiles are given the same artifact."""

    model_config = ConfigDict(frozen=True)

    hardware: Hardware
    runtimes: tuple[Runtime, ...]  # the preferred one first
    probes: tuple[ProbeTime, ...] = ()  # empty: nobody asked for latencies

    def predicted_ms(self, artifact: Artifact) -> float | None:
        """Median latency of ``artifact`` here: the probe's, times what the publisher measured.

        None when the publisher measured none, or with a probe that was not run here.
        """
        if artifact.latency is None:
            return None
        for each in self.probes:
            if each.probe == artifact.latency.probe:
                return each.latency_ms_p50 * artifact.latency.ratio
        return None

    def has_memory_for(self, artifact: Artifact) -> bool:
        """Whether a process that runs ``artifact`` fits; yes where one of both is unknown."""
        memory_bytes = self.hardware.memory_bytes
        return not memory_bytes or (artifact.resident_bytes or 0) <= memory_bytes
