"""Attest: run the golden set and a timing on this device's runtime and delegate, and say so.

A device that fails its golden images is attested all the same: that is what a fleet wants to know.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError
from securesystemslib.signer import Signer, SSlibKey

from compat.attestation import MAX_TEXT, Attestation, AttestedTiming, GoldenResult, Text, failure_of
from compat.embedding import Embedder, cosine_rows
from compat.errors import UntrustedError, UsageError
from compat.golden import GoldenSet
from edge.attest_key import device_signer, fleet_signer
from edge.device import Active, Device
from edge.embedder import open_embedder
from edge.envelope import public_half, sign_attestation
from edge.footprint import measure
from edge.hardware import class_of, hardware, usable_cores
from edge.lock import exclusive

TIMED_RUNS = 100
Progress = Callable[[str], None]  # what is going on


class Made(NamedTuple):
    """What a device measured, as it is and signed."""

    attestation: Attestation
    envelope: bytes
    failure: str | None  # why the device fails its golden images; None when it does not


def attest(
    home: Path,
    *,
    device_class: str | None = None,
    key: tuple[str, SSlibKey] | None = None,
    progress: Progress = lambda what: None,
) -> Made:
    """What the active release does on this device, signed.

    Args:
        home: of the device.
        device_class: None = a name made of the hardware.
        key: URI and public half of a key that the fleet knows; None = the device's own.
        progress: told what is going on.

    Raises:
        UsageError: nothing runs here yet, another attestation is at work, or the key is unusable.
        CorruptError: the disk spoilt the release. Remedy: kinspace device update.
        UntrustedError: the golden set says nothing of the artifact that runs.
    """
    device = Device(home)
    device.config()  # a folder that is no device gets no lock and no key
    named = class_of(hardware()) if device_class is None else _checked(device_class)
    with exclusive(home / ".attest.lock", "another attestation"):
        active, golden = device.active(), device.golden()
        signer, public = _signer(home, key)
        attestation = _measure(active, golden, public, named, progress)
        failure = failure_of(attestation, active.artifact.admission_cosine)
        return Made(attestation, sign_attestation(attestation, signer), failure)


def run_golden_images(golden: GoldenSet, active: Active, embedder: Embedder) -> GoldenResult:
    """Each golden image alone, so that one that is refused does not hide the others.

    Raises:
        UntrustedError: the golden set says nothing of this artifact.
    """
    expected = golden.embeddings.get(active.artifact.digest)  # (K, D)
    if expected is None or not golden.images:
        raise UntrustedError(f"the golden set says nothing of {active.artifact.digest[:12]}")
    cosines, errors = [], [0]
    for i, (blob, wanted) in enumerate(zip(golden.images, golden.pixels, strict=True)):
        try:
            pixels = embedder.preprocess.pixels(blob, f"golden image {i}")  # (S, S, 3)
            row = embedder.embed(embedder.preprocess.normalised(pixels[None]))  # (1, D)
            cosine = float(cosine_rows(row, expected[i : i + 1])[0])
        except UsageError:
            continue
        if pixels.shape != wanted.shape:
            raise UntrustedError(f"golden pixels are {wanted.shape}, the recipe's {pixels.shape}")
        cosines.append(cosine)
        errors.append(int(np.abs(pixels.astype(np.int16) - wanted.astype(np.int16)).max()))
    return GoldenResult(
        digest=active.member.golden.digest,
        images=len(golden.images),
        refused=len(golden.images) - len(cosines),
        pixels_max_error=max(errors),
        cosine_min=min(cosines) if cosines else None,
        cosine_mean=float(np.mean(cosines)) if cosines else None,
    )


def _measure(
    active: Active,
    golden: GoldenSet,
    public: SSlibKey,
    device_class: str,
    progress: Progress,
) -> Attestation:
    manifest, member, artifact, path = active
    embedder = open_embedder(path, artifact.runtime, member.preprocess, manifest.space.dim)
    progress("golden images")
    result = run_golden_images(golden, active, embedder)
    progress("timing, one thread")
    one_thread = _timed(active, threads=1)
    progress("timing, all cores")
    all_cores = _timed(active, threads=usable_cores())
    return Attestation(
        family=manifest.family,
        release=manifest.version,
        member=member.name,
        artifact=artifact.digest,
        runtime=artifact.runtime,
        runtime_version=embedder.runtime_version,
        precision=artifact.precision,
        provider=embedder.provider,
        device_class=device_class,
        hardware=hardware(),
        golden=result,
        one_thread=one_thread,
        all_cores=all_cores,
        kinspace_version=version("kinspace"),
        measured_at=datetime.now(UTC),
        device_key=public_half(public),
    )


def _checked(device_class: str) -> str:
    try:
        return TypeAdapter(Text).validate_python(device_class)
    except ValidationError as error:
        raise UsageError(
            f"a device class is 1 to {MAX_TEXT} printable characters, got {device_class!r}"
        ) from error


def _timed(active: Active, *, threads: int) -> AttestedTiming:
    manifest, member, artifact, path = active
    cost = measure(
        path,
        artifact.runtime,
        member.preprocess,
        manifest.space.dim,
        TIMED_RUNS,
        threads=threads,
    )
    return AttestedTiming(
        threads=threads,
        runs=TIMED_RUNS,
        latency_ms_p50=cost.latency_ms_p50,
        latency_ms_p95=cost.latency_ms_p95,
        resident_bytes=cost.resident_bytes,
    )


def _signer(home: Path, key: tuple[str, SSlibKey] | None) -> tuple[Signer, SSlibKey]:
    if key is None:
        own = device_signer(home)
        return own, own.public_key
    uri, public = key
    return fleet_signer(uri, public), public
