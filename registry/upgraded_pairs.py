"""Signed pairs of a new release and older ones: what ``kinspace upgrade`` measured, as entries.

Only pairs of files become entries: the exported file that asked, the exported cloud model that made
the rows. A pair of an older file that this registry does not know is of no use here and stays out,
and so does one of two embedding spaces. Nothing here decides: the criterion of the measured pair
did, and an artifact that its own release refused is admitted nowhere.
"""

from collections.abc import Iterator

from compat.calibration import Calibration
from compat.errors import RefusedError
from compat.files import digest_of
from compat.manifest import ReleaseManifest
from compat.matrix import CompatibilityMatrix, Entry
from compat.upgrade_report import UpgradePair, UpgradeReport


def upgraded_pairs(
    matrix: CompatibilityMatrix,
    manifest: ReleaseManifest,
    *,
    files: frozenset[str],
    measured: bytes,
) -> tuple[Entry, ...]:
    """An entry for each pair of ``measured`` that joins ``manifest`` and an older release.

    Args:
        matrix: of the family, with the pairs of ``manifest`` in it.
        files: digests of all that was exported for the release, admitted or not.
        measured: the bytes of an `UpgradeReport`.

    Raises:
        RefusedError: it was measured for another family or version, or on other files. Remedy: run
            ``kinspace upgrade`` again.
        UsageError: it cannot be read.
    """
    report = UpgradeReport.from_bytes(measured)
    of, wanted = (report.family, report.version), (manifest.family, manifest.version)
    if of != wanted:
        raise RefusedError(
            f"the upgrade's matrix is of {' '.join(of)}, the release is {' '.join(wanted)}: run "
            "kinspace upgrade again"
        )
    joining = [
        each
        for each in report.pairs
        if each.query_release != each.gallery_release
        and manifest.version in (each.query_release, each.gallery_release)
    ]
    _check_files(joining, manifest.version, files)
    evidence = digest_of(measured)
    return tuple(entry for pair in joining for entry in _entry(matrix, pair, evidence))


def _check_files(pairs: list[UpgradePair], version: str, files: frozenset[str]) -> None:
    for pair in pairs:
        named = []
        if pair.query_release == version and pair.exported:
            named.append((pair.label, pair.exported.digest))
        if pair.gallery_release == version and pair.gallery_digest:
            named.append(("the gallery model", pair.gallery_digest))
        for what, digest in named:
            if digest not in files:
                raise RefusedError(
                    f"the upgrade's matrix measured {what} {digest[:12]}, which is no file of this "
                    "release: run kinspace upgrade again"
                )


def _entry(matrix: CompatibilityMatrix, pair: UpgradePair, evidence: str) -> Iterator[Entry]:
    """The pair's, where its two files are of this family and of one space."""
    if pair.exported is None or pair.gallery_digest is None or pair.criterion is None:
        return
    digest = pair.exported.digest
    query = next((each for each in matrix.entries if each.artifact_digest == digest), None)
    made_by = pair.gallery_digest
    gallery = next((each for each in matrix.entries if each.gallery_digest == made_by), None)
    if query is None or gallery is None or query.space != gallery.gallery_space:
        return
    scores = pair.calibration or Calibration()
    yield Entry(
        member=query.member,
        artifact_digest=digest,
        runtime=query.runtime,
        precision=query.precision,
        space=query.space,
        gallery_generation=gallery.gallery_generation,
        gallery_model=gallery.gallery_model,
        gallery_digest=gallery.gallery_digest,
        gallery_space=gallery.gallery_space,
        admitted=bool(pair.holds) and bool(matrix.galleries_for(digest)),
        cross=pair.cross.value,
        criterion=pair.criterion.value,
        score_scale=scores.scale,
        score_shift=scores.shift,
        report_digest=evidence,
    )
