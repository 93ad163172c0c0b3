"""Which artifacts of a release a device tries, in which order: a decision, no IO.

Best verified accuracy first, of those that run here, may query a gallery and fit the app's budget.
Accuracies closer than `EQUAL_CROSS` count as equal; among equals the cheaper network goes first,
then the preferred runtime, then the smallest precision: the same gate admitted all of them, and a
phone pays for bytes and memory (docs/choice.md, docs/adr/0015).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from compat.errors import AdmissionError, UsageError
from compat.manifest import Artifact, Member, Precision, ReleaseManifest, Runtime
from compat.matrix import CompatibilityMatrix
from edge.budget import Budget
from edge.profile import DeviceProfile

EQUAL_CROSS = 0.005  # of mAP: half a point is less than a set of hundreds of queries can show
PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")
# LiteRT first: faster and smaller in memory on what phones have.
RUNTIME_MODULES: dict[Runtime, str] = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True)
class Offer:
    """One artifact of a release, and what is known of it on this device."""

    member: Member
    artifact: Artifact
    cross: float | None  # M(query, gallery) in mAP, of its newest gallery; None: no matrix
    latency_ms: float | None  # predicted; None: nobody measured what it takes

    @property
    def label(self) -> str:
        return f"{self.member.name} {self.artifact.label}"

    def __str__(self) -> str:
        words = [f"{self.artifact.size_bytes / 1e6:.2f} MB"]
        if self.latency_ms is not None:
            words.append(f"{self.latency_ms:.2f} ms predicted")
        if self.cross is not None:
            words.append(f"mAP {self.cross:.1%}")
        return f"{self.label} ({', '.join(words)})"


def choose(
    manifest: ReleaseManifest,
    member: str | None,
    profile: DeviceProfile,
    *,
    budget: Budget,
    matrix: CompatibilityMatrix | None,
) -> tuple[Offer, ...]:
    """What to try, in this order.

    Args:
        member: the wished one; None = whichever is best here.
        matrix: the family's; None where it has none: then members stand in the release's order.

    Raises:
        UsageError: the release has no such member. Remedy: init with one that it has.
        AdmissionError: nothing runs here, may query a gallery, or fits; the message names what
            comes nearest. Remedy: install a runtime, or grant more.
    """
    members = [each for each in manifest.members if member in (None, each.name)]
    if not members:
        names = [each.name for each in manifest.members]
        raise UsageError(f"release {manifest.version} has no member {member}, it has {names}")
    runs = [
        Offer(each, artifact, _cross(artifact, matrix), profile.predicted_ms(artifact))
        for each in members
        for artifact in each.artifacts
        if artifact.runtime in profile.runtimes and profile.has_memory_for(artifact)
    ]
    if not runs:
        labels = [f"{each.name} {one.label}" for each in members for one in each.artifacts]
        memory = f"{profile.hardware.memory_bytes / 2**20:.0f} MiB"
        raise AdmissionError(
            f"release {manifest.version} has {labels}; this device of {memory} runs "
            f"{list(profile.runtimes)} only"
        )
    proven = [each for each in runs if matrix is None or each.cross is not None]
    if not proven:
        raise AdmissionError(
            f"release {manifest.version} has {[each.label for each in runs]} for this device, and "
            f"the matrix of {manifest.family} admits none of them to a gallery"
        )
    fitting = [each for each in proven if _excess(each, budget) <= 1]
    if not fitting:
        raise AdmissionError(_nothing_fits(manifest, proven, budget))
    return tuple(_ranked(fitting, manifest, profile.runtimes))


def installed_runtimes() -> tuple[Runtime, ...]:
    """The runtimes that this installation has, the preferred one first."""
    return tuple(name for name, module in RUNTIME_MODULES.items() if find_spec(module))


def _cross(artifact: Artifact, matrix: CompatibilityMatrix | None) -> float | None:
    """Accuracy in the newest gallery that the artifact may query."""
    galleries = matrix.galleries_for(artifact.digest) if matrix else ()
    if matrix is None or not galleries:
        return None
    return matrix.check(artifact_digest=artifact.digest, gallery=galleries[-1]).cross


def _excess(offer: Offer, budget: Budget) -> float:
    return budget.excess(latency_ms=offer.latency_ms, size_bytes=offer.artifact.size_bytes)


def _ranked(
    offers: Sequence[Offer], manifest: ReleaseManifest, runtimes: Sequence[Runtime]
) -> list[Offer]:
    """Groups of equal accuracy, the best first; in one is all within `EQUAL_CROSS` of its top."""
    left = sorted(offers, key=lambda each: each.cross or 0.0, reverse=True)
    ranked: list[Offer] = []
    while left:
        floor = (left[0].cross or 0.0) - EQUAL_CROSS
        equals = [each for each in left if (each.cross or 0.0) >= floor]
        left = left[len(equals) :]
        ranked += sorted(equals, key=lambda each: _thrift(each, manifest, runtimes))
    return ranked


def _thrift(
    offer: Offer, manifest: ReleaseManifest, runtimes: Sequence[Runtime]
) -> tuple[int, int, int, int]:
    member, artifact = offer.member, offer.artifact
    return (
        member.macs if offer.cross is not None else 0,
        manifest.members.index(member),
        runtimes.index(artifact.runtime),
        PRECISIONS.index(artifact.precision),
    )


def _nothing_fits(manifest: ReleaseManifest, offers: Sequence[Offer], budget: Budget) -> str:
    nearest = min(offers, key=lambda each: (_excess(each, budget), each.artifact.size_bytes))
    excess = _excess(nearest, budget)
    if excess == float("inf"):
        return (
            f"release {manifest.version} does not say how fast its artifacts are on this device's "
            f"probes, so none can be promised within {budget}: publish it again with this version, "
            "or init without --max-latency-ms"
        )
    return (
        f"nothing of release {manifest.version} fits {budget} on this device; the nearest is "
        f"{nearest}, {excess:.1f} times the limit: init with a larger budget"
    )
