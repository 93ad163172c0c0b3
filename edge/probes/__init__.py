"""The probes: small networks that ship, run by publisher and device alike to compare machines.

A publisher writes down how many times longer an artifact takes than the probe of its runtime and
precision; a device runs the probe and multiplies. ``python -m benchmarks.probes`` made the files;
other files are other probes, by digest, and nothing is predicted across them (docs/choice.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from compat.errors import CorruptError
from compat.files import digest_of, read_bounded, write_atomic
from compat.manifest import SUFFIX, Precision, Runtime
from compat.preprocess import Preprocess
from compat.wire import canonical_json
from edge.footprint import measure
from edge.hardware import hardware
from edge.profile import DeviceProfile, ProbeTime

RECIPE = Preprocess(size_px=64)
DIM = 16
RUNS = 100
MAX_PROBE_BYTES = 2**20
_PACKAGES: dict[Runtime, str] = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True)
class Probe:
    """One file of the probe network."""

    runtime: Runtime
    precision: Precision

    @property
    def path(self) -> Path:
        folder = Path(__file__).parent
        return folder / f"{self.runtime}-{self.precision}.{SUFFIX[self.runtime]}"

    @property
    def digest(self) -> str:
        return digest_of(read_bounded(self.path, MAX_PROBE_BYTES))

    def measured(self) -> ProbeTime:
        """Run it here. Raises as `edge.footprint.measure`."""
        found = measure(self.path, self.runtime, RECIPE, DIM, RUNS)
        return ProbeTime(
            probe=self.digest,
            runtime=self.runtime,
            runtime_version=version(_PACKAGES[self.runtime]),
            precision=self.precision,
            latency_ms_p50=found.latency_ms_p50,
        )


PROBES = tuple(
    Probe(runtime, precision) for runtime in _PACKAGES for precision in ("fp32", "int8")
)  # fp16 weights are widened on loading, so the fp32 probe stands for them


def probe_for(runtime: Runtime, precision: Precision) -> Probe:
    """The probe that an artifact of this kind is compared with."""
    return Probe(runtime, "int8" if precision == "int8" else "fp32")


def profile_in(home: Path, runtimes: Sequence[Runtime], *, is_fresh: bool = False) -> DeviceProfile:
    """This device's profile with all its probes, kept in ``home``; measured when it must be.

    Args:
        is_fresh: measure, whatever is kept.

    Raises:
        UsageError: ``home`` cannot be written, or a probe does not run here.
    """
    path = home / "profile.json"
    kept = None if is_fresh else _kept(path)
    if kept and _is_current(kept, runtimes):
        return kept
    found = DeviceProfile(
        hardware=hardware(),
        runtimes=tuple(runtimes),
        probes=tuple(each.measured() for each in PROBES if each.runtime in runtimes),
    )
    write_atomic(path, canonical_json(found.model_dump(mode="json")))
    return found


def _kept(path: Path) -> DeviceProfile | None:
    """A profile that the disk spoilt counts as none: it is measured again."""
    if not path.exists():
        return None
    try:
        return DeviceProfile.model_validate_json(read_bounded(path, MAX_PROBE_BYTES))
    except (ValidationError, CorruptError):
        return None


def _is_current(kept: DeviceProfile, runtimes: Sequence[Runtime]) -> bool:
    """Whether the machine, the runtimes and the probes are still those that were measured."""
    now = {
        (each.digest, version(_PACKAGES[each.runtime]))
        for each in PROBES
        if each.runtime in runtimes
    }
    then = {(each.probe, each.runtime_version) for each in kept.probes}
    return (kept.hardware, kept.runtimes, then) == (hardware(), tuple(runtimes), now)
