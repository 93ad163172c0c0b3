"""What a version number promises: patch = the same members, as good as before; minor = more members
in the same space; major = anything, galleries may have to be refreshed.

The number must not promise more than the release keeps; that it promises less is allowed.
"""

from compat.errors import RefusedError
from compat.manifest import ReleaseManifest
from compat.report import Report

PATCH_MAP_TOLERANCE = 0.02  # mAP of the cross-test that an artifact may lose in a patch


def check_follows(before: ReleaseManifest, after: ReleaseManifest) -> None:
    """Return when ``after`` may take the place of ``before``, as far as their manifests tell.

    Raises:
        RefusedError: its version does not say what it is. Remedy: choose the version that does.
    """
    old, new = numbers(before.version), numbers(after.version)
    if new <= old:
        raise RefusedError(
            f"version {after.version} is not above {before.version}, which is published: choose a "
            "higher one, or kinspace demote to go back"
        )
    if new[0] > old[0]:
        return
    if before.space != after.space:
        raise RefusedError(
            f"version {after.version} changes the embedding space from {before.space.id} to "
            f"{after.space.id}, galleries must be refreshed: that is a major version"
        )
    had, has = _members(before), _members(after)
    if lost := sorted(had - has):
        raise RefusedError(
            f"version {after.version} has no member {', '.join(lost)} any longer, devices that "
            "follow it would stand still: that is a major version"
        )
    if is_patch(before, after) and (added := sorted(has - had)):
        raise RefusedError(
            f"version {after.version} adds the member {', '.join(added)}: that is a minor version"
        )


def check_parity(before: Report, after: Report, version: str) -> None:
    """Return when ``after`` searches as well as ``before``, artifact by artifact: a patch.

    Artifacts are the same when member, runtime and precision are; only those of both are compared.

    Raises:
        RefusedError: one lost more than `PATCH_MAP_TOLERANCE`, or the two were measured on
            different images. Remedy: a minor version, or measure on the same.
    """
    if before.evidence.dataset_digest != after.evidence.dataset_digest:
        raise RefusedError(
            f"version {version} was measured on other images than the release before, so that "
            "parity cannot be told: verify on the same images, or make it a minor version"
        )
    measured = {each.label: each.cross_test.map.value for each in before.admitted}
    lost = [
        f"{each.label}: {measured[each.label]:.4f} -> {each.cross_test.map.value:.4f}"
        for each in after.admitted
        if measured.get(each.label, 0.0) - each.cross_test.map.value > PATCH_MAP_TOLERANCE
    ]
    if lost:
        raise RefusedError(
            f"version {version} searches worse than the release before (mAP, {'; '.join(lost)}; a "
            f"patch may lose {PATCH_MAP_TOLERANCE}): that is a minor version"
        )


def is_patch(before: ReleaseManifest, after: ReleaseManifest) -> bool:
    return numbers(before.version)[:2] == numbers(after.version)[:2]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _members(manifest: ReleaseManifest) -> set[str]:
    return {member.name for member in manifest.members}
