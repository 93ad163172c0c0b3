"""Which artifact of a release a device tries, in which order."""

from collections.abc import Sequence
from importlib.util import find_spec

from compat.errors import AdmissionError, UsageError
from compat.manifest import Artifact, Member, Precision, ReleaseManifest, Runtime

# The smallest first: the same gate admitted all of them, and a phone pays for bytes and memory.
PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")
# LiteRT first: faster and smaller in memory on what phones have.
RUNTIME_MODULES: dict[Runtime, str] = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}


def choose(
    manifest: ReleaseManifest,
    member: str | None,
    *,
    runtimes: Sequence[Runtime],
    precisions: Sequence[Precision] = PRECISIONS,
) -> tuple[Member, tuple[Artifact, ...]]:
    """The member to run, and its artifacts that can run here, in the order to try them.

    Args:
        member: the wished one; None = the first that the release lists.
        runtimes: what this device has, the preferred one first.

    Raises:
        UsageError: the release has no such member. Remedy: init with one that it has.
        AdmissionError: nothing of the member runs here. Remedy: install a runtime that it has.
    """
    chosen = next((each for each in manifest.members if member in (None, each.name)), None)
    if chosen is None:
        names = [each.name for each in manifest.members]
        raise UsageError(f"release {manifest.version} has no member {member}, it has {names}")
    fitting = [
        each
        for each in chosen.artifacts
        if each.runtime in runtimes and each.precision in precisions
    ]
    if not fitting:
        labels = [each.label for each in chosen.artifacts]
        raise AdmissionError(
            f"release {manifest.version} has {labels} of {chosen.name}; "
            f"this device runs {list(runtimes)} only"
        )
    fitting.sort(key=lambda each: (runtimes.index(each.runtime), precisions.index(each.precision)))
    return chosen, tuple(fitting)


def installed_runtimes() -> tuple[Runtime, ...]:
    """The runtimes that this installation has, the preferred one first."""
    return tuple(name for name, module in RUNTIME_MODULES.items() if find_spec(module))
