"""Device evidence into a report: read a folder of signed attestations, count those that may count.

A file counts when its signature verifies, its key is trusted, and the report speaks of its
artifact. The others are named with the reason, so that a missing device class is noticed.
"""

from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.progress import track

from compat.attestation import MAX_ATTESTATION_BYTES, Attested, Expected, mismatch_of
from compat.device_evidence import AttestationSection, RefusedAttestation, aggregate
from compat.errors import UntrustedError, UsageError
from compat.files import read_bounded
from compat.report import Report
from edge.envelope import open_envelope
from registry.candidate import CandidateFolder
from registry.judging import read_report
from registry.report_files import write_report
from registry.workspace import Workspace

MAX_ATTESTATIONS = 10_000  # in one folder
_REASON_CHARS = 300  # a refused file must not write a novel into the report


def attach_attestations(
    workspace: Workspace, folder: Path, *, trusted: Collection[str] | None = None
) -> AttestationSection:
    """Put the device evidence in ``folder`` into the workspace's report, in place of any before.

    Args:
        trusted: ids of the keys that may sign; None = any key, which proves that nobody changed
            the numbers since, not whose they are.

    Raises:
        UsageError: there is no report, its artifacts were exported again since, or ``folder``
            holds no file or too many.
        UntrustedError: none of them counts.

    In every case the report is as before.
    """
    report = read_report(workspace)
    expected = {each.digest: each for each in expected_of(workspace, report)}
    attested: list[Attested] = []
    refused: list[RefusedAttestation] = []
    for path in track(
        _files_in(folder), "attestations", console=Console(stderr=True), transient=True
    ):
        try:
            attested.append(read_attestation(path, report.family, expected, trusted))
        except (UntrustedError, UsageError) as error:
            reason = " ".join(str(error).replace(str(path), path.name).split())[:_REASON_CHARS]
            refused.append(RefusedAttestation(source=path.name, reason=reason))
    if not attested:
        reasons = "; ".join(f"{each.source}: {each.reason}" for each in refused[:5])
        raise UntrustedError(f"none of {len(refused)} attestations counts: {reasons}")
    section = AttestationSection(
        trust="self-signed" if trusted is None else "listed keys",
        classes=aggregate(attested, expected.values()),
        refused=tuple(refused),
    )
    changed = report.model_copy(update={"attestations": section})
    write_report(workspace, changed)
    return section


def read_attestation(
    path: Path, family: str, expected: dict[str, Expected], trusted: Collection[str] | None
) -> Attested:
    """One file, if it counts.

    Raises:
        UntrustedError: it does not; the message says why.
        UsageError: it cannot be read, or is too long for an attestation.
    """
    found = open_envelope(read_bounded(path, MAX_ATTESTATION_BYTES), path.name)
    if trusted is not None and found.key_id not in trusted:
        raise UntrustedError(f"key {found.key_id[:12]} is not among the {len(trusted)} trusted")
    if mismatch := mismatch_of(found.attestation, family, expected):
        raise UntrustedError(mismatch)
    return found


def expected_of(workspace: Workspace, report: Report) -> tuple[Expected, ...]:
    """The report's artifacts with what a device must reach.

    Raises:
        UsageError: one was exported again since. Remedy: verify again.
    """
    members = sorted({each.member for each in report.artifacts})
    models = [CandidateFolder(workspace.artifacts / name).read() for name in members]
    cosines = {each.digest: each.admission_cosine for model in models for each in model.artifacts}
    missing = [each.label for each in report.artifacts if each.digest not in cosines]
    if missing:
        raise UsageError(f"exported again since the report was made: {missing}; verify again")
    return tuple(
        Expected(each.member, each.runtime, each.precision, each.digest, cosines[each.digest])
        for each in report.artifacts
    )


def _files_in(folder: Path) -> list[Path]:
    try:
        found = [each for each in folder.iterdir() if not each.name.startswith(".")]
        files = sorted(each for each in found if each.is_file())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from error
    if not files:
        raise UsageError(f"{folder} holds no attestation: kinspace device attest makes them")
    if len(files) > MAX_ATTESTATIONS:
        raise UsageError(
            f"{folder} holds {len(files)} files, more than {MAX_ATTESTATIONS}: give one release's"
        )
    return files
