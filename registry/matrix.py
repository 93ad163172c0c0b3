"""The compatibility matrix on the publisher's side: what a release's report adds to it.

Only what was measured becomes an entry, what the gate refused included: a device that asks is then
told "measured and refused" and not "unknown". Nothing here decides; the report did.
"""

from compat.calibration import Calibration
from compat.manifest import Model, ReleaseManifest
from compat.matrix import MAX_MATRIX_BYTES, CompatibilityMatrix, Entry, matrix_target
from compat.report import Report
from registry.repository import Repository


def stored_matrix(repository: Repository, family: str) -> CompatibilityMatrix:
    """What is published now; without entries when nothing is. Raises as `Repository.read`."""
    blob = repository.read(family, matrix_target(family), max_bytes=MAX_MATRIX_BYTES)
    if blob is None:
        return CompatibilityMatrix(family=family)
    return CompatibilityMatrix.from_bytes(blob, family=family)


def with_release(
    before: CompatibilityMatrix, manifest: ReleaseManifest, report: Report
) -> CompatibilityMatrix:
    """``before``, and every pair that ``report`` measured for the release ``manifest``."""
    return before.with_entries(entries_of(before, manifest, report))


def entries_of(
    before: CompatibilityMatrix, manifest: ReleaseManifest, report: Report
) -> tuple[Entry, ...]:
    """The gallery model on its own gallery (the reference pair), then each artifact on it."""
    gallery = gallery_fields(before, manifest.cloud, manifest.version, manifest.space.id)
    shared = gallery | {"space": manifest.space.id, "report_digest": manifest.report.digest}
    [cloud] = manifest.cloud.artifacts
    reference = Entry.model_validate(
        shared
        | {
            "member": manifest.cloud.name,
            "artifact_digest": cloud.digest,
            "runtime": cloud.runtime,
            "precision": cloud.precision,
            "admitted": True,
            "cross": report.cloud.paragon.map.value,
        }
    )
    measured = tuple(
        Entry.model_validate(
            shared
            | {
                "member": each.member,
                "artifact_digest": each.digest,
                "runtime": each.runtime,
                "precision": each.precision,
                "admitted": each.verdict.admitted,
                "cross": each.cross_test.map.value,
                "criterion": each.self_test.map.value,
                **score_fields(each.calibration),
            }
        )
        for each in report.artifacts
    )
    return reference, *measured


def score_fields(found: Calibration | None) -> dict[str, float]:
    """What an `Entry` says of its scores; as they are where no scale was found."""
    scores = found or Calibration()
    return {"score_scale": scores.scale, "score_shift": scores.shift}


def gallery_fields(
    before: CompatibilityMatrix, cloud: Model, version: str, space: str
) -> dict[str, str]:
    """What an `Entry` says of the gallery that ``cloud`` of the release ``version`` makes.

    A cloud model that ``before`` knows keeps the generation under which it came out first.
    """
    [artifact] = cloud.artifacts
    return {
        "gallery_generation": before.generation_of(artifact.digest) or version,
        "gallery_model": cloud.name,
        "gallery_digest": artifact.digest,
        "gallery_space": space,
    }
