"""Device evidence: what a fleet's attestations say together, per device class and artifact.

Pure: whoever calls has checked the signatures, and says who could have made them.
"""

from collections.abc import Iterable
from datetime import datetime
from statistics import median
from typing import Literal

from pydantic import Field

from compat.attestation import Attested, Expected, failure_of
from compat.manifest import Digest, Precision, Runtime
from compat.report_parts import Part
from compat.space import Name


class DeviceFailure(Part):
    """A device that computes something else than what was verified."""

    key_id: Digest
    source: str
    reason: str


class DeviceClassEvidence(Part):
    """What devices of one class measured of one artifact; each device counts once, its newest."""

    device_class: str
    member: Name
    runtime: Runtime
    precision: Precision
    digest: Digest
    provenance: str  # "measured on <device class>"
    backends: tuple[str, ...]  # runtime, version and provider, each kind once
    devices: int = Field(ge=1)
    attestations: int = Field(ge=1)  # >= devices: older ones of the same device are not counted on
    admission_cosine: float
    cosine_worst: float | None  # over devices and golden images; None: no image gave an embedding
    refused_images: int = Field(ge=0)
    latency_ms_p50: float  # one thread: the median of the devices' medians
    latency_ms_p95: float  # one thread: the largest of the devices' 95th percentiles
    all_cores_latency_ms_p50: float
    all_cores_latency_ms_p95: float
    resident_bytes_max: int  # one thread
    failures: tuple[DeviceFailure, ...]

    @property
    def label(self) -> str:
        return f"{self.member} {self.runtime}/{self.precision}"


class RefusedAttestation(Part):
    """A file that was not counted, and why."""

    source: str
    reason: str


class AttestationSection(Part):
    """Device evidence of a report: numbers that devices measured, not this machine."""

    trust: Literal["self-signed", "listed keys"]  # who may sign: any key, or those the caller named
    classes: tuple[DeviceClassEvidence, ...]
    refused: tuple[RefusedAttestation, ...]

    @property
    def failures(self) -> int:
        return sum(len(each.failures) for each in self.classes)


def aggregate(
    attested: Iterable[Attested], expected: Iterable[Expected]
) -> tuple[DeviceClassEvidence, ...]:
    """One row per device class and artifact, in the order of their names.

    Args:
        attested: verified ones; each must speak of one of ``expected`` (see `mismatch_of`). The
            order does not matter; the newest of one device and artifact counts.
        expected: artifacts of the report.
    """
    by_digest = {each.digest: each for each in expected}
    newest: dict[tuple[str, str], Attested] = {}
    made: dict[tuple[str, str], set[bytes]] = {}  # a copy of an attestation is not another one
    for each in sorted(attested, key=_age):
        key = (each.key_id, each.attestation.artifact)
        newest[key] = each
        made.setdefault(key, set()).add(each.attestation.to_bytes())
    groups: dict[tuple[str, str], list[Attested]] = {}
    for each in newest.values():
        group = (each.attestation.device_class, each.attestation.artifact)
        groups.setdefault(group, []).append(each)
    rows = [
        _row(
            group,
            by_digest[digest],
            attestations=sum(len(made[each.key_id, digest]) for each in group),
        )
        for (_, digest), group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.device_class, row.label, row.digest)))


def _age(each: Attested) -> tuple[datetime, bytes, str]:
    """Equal times are ordered by content, so that the result is one whatever came first."""
    return each.attestation.measured_at, each.attestation.to_bytes(), each.source


def _row(group: list[Attested], expected: Expected, *, attestations: int) -> DeviceClassEvidence:
    members = sorted(group, key=lambda each: each.key_id)
    found = [each.attestation for each in members]
    reasons = [failure_of(each, expected.admission_cosine) for each in found]
    worst = [each.golden.cosine_min for each in found if each.golden.cosine_min is not None]
    device_class = found[0].device_class
    return DeviceClassEvidence(
        device_class=device_class,
        member=expected.member,
        runtime=expected.runtime,
        precision=expected.precision,
        digest=expected.digest,
        provenance=f"measured on {device_class}",
        backends=tuple(sorted({f"{e.runtime} {e.runtime_version} {e.provider}" for e in found})),
        devices=len(found),
        attestations=attestations,
        admission_cosine=expected.admission_cosine,
        cosine_worst=min(worst, default=None),
        refused_images=sum(each.golden.refused for each in found),
        latency_ms_p50=median(each.one_thread.latency_ms_p50 for each in found),
        latency_ms_p95=max(each.one_thread.latency_ms_p95 for each in found),
        all_cores_latency_ms_p50=median(each.all_cores.latency_ms_p50 for each in found),
        all_cores_latency_ms_p95=max(each.all_cores.latency_ms_p95 for each in found),
        resident_bytes_max=max(each.one_thread.resident_bytes for each in found),
        failures=tuple(
            DeviceFailure(key_id=each.key_id, source=each.source, reason=reason)
            for each, reason in zip(members, reasons, strict=True)
            if reason
        ),
    )
