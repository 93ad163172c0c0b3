"""What ``kinspace upgrade`` measured becomes signed pairs, together with the new release."""

from pathlib import Path

import pytest
from tiles import artifact_of, candidate, model, tiles_in

from compat.calibration import Calibration
from compat.errors import RefusedError, UsageError
from compat.files import digest_of
from compat.manifest import blob_target
from compat.report import Report, Verdict
from compat.report_parts import Estimate
from compat.upgrade_report import MAX_UPGRADE_BYTES, Exported, UpgradePair, UpgradeReport
from compat.wire import canonical_json
from edge.device import Device
from registry.keys import KeyFolder
from registry.matrix import stored_matrix
from registry.publish import Candidate, publish
from registry.repository import Repository

OLD_CLOUD, OLD_SMALL = model(0.0), model(0.05)
NEW_CLOUD, NEW_SMALL = model(0.1), model(0.15)
FILES = {
    ("old", "large"): OLD_CLOUD,
    ("old", "small"): OLD_SMALL,
    ("2.0.0", "large"): NEW_CLOUD,
    ("2.0.0", "small"): NEW_SMALL,
}


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01, counted=9, skipped=0)


def pair(query: tuple[str, str], gallery: str, above: float | None) -> UpgradePair:
    file = artifact_of(FILES[query])
    return UpgradePair(
        query_release=query[0],
        query=query[1],
        gallery_release=gallery,
        cross=estimate(0.5),
        criterion=None if above is None else estimate(0.5 - above),
        above=None if above is None else estimate(above),
        exported=Exported(digest=file.digest, runtime=file.runtime, precision=file.precision),
        gallery_digest=digest_of(FILES[gallery, "large"]),
        calibration=Calibration(scale=1.25, shift=-0.1),
    )


PAIRS = (
    pair(("old", "large"), "old", None),
    pair(("old", "large"), "2.0.0", -0.02),
    pair(("old", "small"), "old", 0.01),
    pair(("old", "small"), "2.0.0", 0.03),
    pair(("2.0.0", "large"), "old", 0.04),
    pair(("2.0.0", "large"), "2.0.0", None),
    pair(("2.0.0", "small"), "old", 0.02),
    pair(("2.0.0", "small"), "2.0.0", 0.02),
)


def upgrade(**over: object) -> bytes:
    fields: dict[str, object] = {
        "family": "tiles",
        "version": "2.0.0",
        "dataset_digest": "d",
        "split": "test",
        "releases": ("old", "2.0.0"),
        "pairs": PAIRS,
        "criterion": True,
        "average_compatibility": 1.0,
        "update_gain": None,
        "unconstrained": None,
        "self_above_unconstrained": None,
    }
    report = UpgradeReport.model_validate({**fields, **over})
    return canonical_json(report.model_dump(mode="json"))


def changed(query: tuple[str, str], gallery: str, **over: object) -> tuple[UpgradePair, ...]:
    """All pairs, one of them with other fields."""
    return tuple(
        each.model_copy(update=over)
        if (each.query_release, each.query, each.gallery_release) == (*query, gallery)
        else each
        for each in PAIRS
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A registry in which 1.0.0 came out."""
    tiles_in(tmp_path / "data", 6)
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family("tiles")
    made = candidate(
        tmp_path / "data", version="1.0.0", cloud=OLD_CLOUD, members={"small": OLD_SMALL}
    )
    publish(repository, made)
    return repository


def release(root: Path, measured: bytes | None) -> Candidate:
    made = candidate(root / "data", version="2.0.0", cloud=NEW_CLOUD, members={"small": NEW_SMALL})
    return Candidate(**{**vars(made), "upgrade": measured})


def admitted(repository: Repository) -> dict[tuple[str, str], bool]:
    names = {digest_of(blob): f"{of} {name}" for (of, name), blob in FILES.items()}
    entries = stored_matrix(repository, "tiles").entries
    return {(names[e.artifact_digest], e.gallery_generation): e.admitted for e in entries}


NATIVE = {
    ("old large", "1.0.0"): True,
    ("old small", "1.0.0"): True,
    ("2.0.0 large", "2.0.0"): True,
    ("2.0.0 small", "2.0.0"): True,
}
ACROSS = {
    ("old large", "2.0.0"): False,  # its criterion fails
    ("old small", "2.0.0"): True,
    ("2.0.0 large", "1.0.0"): True,
    ("2.0.0 small", "1.0.0"): True,
}


def test_publishing_signs_the_pairs_in_the_same_commit(repository: Repository, tmp_path: Path):
    device = Device(tmp_path / "phone")
    device.init(str(tmp_path / "registry"), repository.trusted_root, "tiles")
    device.update()
    assert device.galleries() == ("1.0.0",)
    measured = upgrade()
    publish(repository, release(tmp_path, measured))
    assert admitted(repository) == NATIVE | ACROSS
    entry = stored_matrix(repository, "tiles").check(
        artifact_digest=digest_of(NEW_SMALL), gallery="1.0.0"
    )
    assert (entry.cross, entry.criterion) == (0.5, 0.48)
    assert (entry.score_scale, entry.score_shift) == (1.25, -0.1)
    name = blob_target("tiles", entry.report_digest)
    assert repository.read("tiles", name, max_bytes=MAX_UPGRADE_BYTES) == measured
    assert device.update().version == "2.0.0"
    assert device.galleries() == ("1.0.0", "2.0.0")


def test_pairs_that_are_measured_later_are_added_once(repository: Repository, tmp_path: Path):
    publish(repository, release(tmp_path, None))
    assert admitted(repository) == NATIVE
    publish(repository, release(tmp_path, upgrade()))
    assert admitted(repository) == NATIVE | ACROSS
    version = repository.version
    publish(repository, release(tmp_path, upgrade()))
    assert repository.version == version


def test_a_pair_that_fails_its_criterion_is_listed_and_refused(repository, tmp_path):
    equal = changed(("2.0.0", "small"), "old", above=estimate(0.0))
    publish(repository, release(tmp_path, upgrade(pairs=equal)))
    assert not admitted(repository)["2.0.0 small", "1.0.0"]
    device = Device(tmp_path / "phone")
    device.init(str(tmp_path / "registry"), repository.trusted_root, "tiles")
    device.update()
    assert device.galleries() == ("2.0.0",)


def test_what_was_not_measured_by_files_this_registry_knows_stays_out(repository, tmp_path):
    trained = changed(("2.0.0", "small"), "old", exported=None)
    publish(repository, release(tmp_path, upgrade(pairs=trained)))
    assert ("2.0.0 small", "1.0.0") not in admitted(repository)
    assert not UpgradeReport.from_bytes(upgrade(pairs=())).is_of_files
    assert UpgradeReport.from_bytes(upgrade()).is_of_files


def test_an_older_release_of_another_registry_adds_nothing(repository, tmp_path):
    elsewhere = tuple(
        each.model_copy(update={"gallery_digest": "e" * 64})
        if each.gallery_release == "old"
        else each
        for each in PAIRS
    )
    publish(repository, release(tmp_path, upgrade(pairs=elsewhere)))
    across = {key: ACROSS[key] for key in ACROSS if key[1] == "2.0.0"}
    assert admitted(repository) == NATIVE | across


def test_an_artifact_that_its_own_release_refused_is_admitted_nowhere(repository, tmp_path):
    members = {"other": model(0.2), "small": NEW_SMALL}
    made = candidate(tmp_path / "data", version="2.0.0", cloud=NEW_CLOUD, members=members)
    report = Report.from_bytes(made.report)
    other, small = report.artifacts
    refused = small.model_copy(
        update={"verdict": Verdict(compatible=False, admitted=False, reasons=("too little",))}
    )
    blob = report.model_copy(update={"artifacts": (other, refused)}).to_bytes()
    publish(repository, Candidate(**{**vars(made), "report": blob, "upgrade": upgrade()}))
    found = stored_matrix(repository, "tiles")
    assert not found.find(artifact_digest=digest_of(NEW_SMALL), gallery="1.0.0").admitted


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"family": "chairs"}, "is of chairs 2.0.0, the release is tiles 2.0.0"),
        ({"version": "1.9.0"}, "is of tiles 1.9.0"),
        (
            {
                "pairs": changed(
                    ("2.0.0", "small"),
                    "old",
                    exported=Exported(digest="e" * 64, runtime="onnxruntime", precision="fp32"),
                )
            },
            "measured small onnxruntime/fp32 eeeeeeeeeeee, which is no file of this release",
        ),
        (
            {"pairs": changed(("old", "small"), "2.0.0", gallery_digest="e" * 64)},
            "measured the gallery model eeeeeeeeeeee",
        ),
    ],
)
def test_numbers_of_another_release_sign_nothing(repository, tmp_path, over, why):
    version = repository.version
    with pytest.raises(RefusedError, match=why):
        publish(repository, release(tmp_path, upgrade(**over)))
    assert repository.version == version


def test_a_file_that_is_no_matrix_signs_nothing(repository, tmp_path):
    version = repository.version
    with pytest.raises(UsageError, match="run kinspace upgrade again"):
        publish(repository, release(tmp_path, b"{}"))
    assert repository.version == version
