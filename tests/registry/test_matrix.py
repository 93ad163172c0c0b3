"""What a release's report adds to the family's matrix, and what a matrix keeps of older ones."""

from measured import RETRIEVAL, measured

from compat.calibration import Calibration
from compat.files import digest_of
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.matrix import CompatibilityMatrix
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import CloudEvidence, Evidence, Report, Timing
from compat.space import EmbeddingSpace
from registry.matrix import with_release

SPACE = EmbeddingSpace(family="furniture", generation=1, dim=4)
EMPTY = CompatibilityMatrix(family="furniture")


def artifact(name: str, precision: str = "fp32") -> Artifact:
    return Artifact(
        digest=digest_of(f"{name} {precision}".encode()),
        size_bytes=9,
        runtime="onnxruntime",
        precision=precision,
        admission_cosine=0.9,
    )


def release(version: str, salt: str = "") -> tuple[ReleaseManifest, Report]:
    """A member of which int8 was refused, and its gallery model, both named by ``salt``."""
    shared = {"preprocess": Preprocess(size_px=8), "macs": 9, "params": 9}
    cloud = artifact(f"cloud {salt}")
    good, bad = artifact(f"phone {salt}"), artifact(f"phone {salt}", "int8")
    manifest = ReleaseManifest(
        family="furniture",
        version=version,
        space=SPACE,
        cloud=Model(name="cloud", artifacts=(cloud,), **shared),
        members=(
            Member(
                name="phone",
                artifacts=(good,),
                golden=Blob(digest="0" * 64, size_bytes=1),
                **shared,
            ),
        ),
        report=Blob(digest=digest_of(f"report {version}".encode()), size_bytes=1),
    )
    report = Report(
        family="furniture",
        space=SPACE,
        evidence=Evidence(dataset_digest="0" * 64, split="test", queries=9, gallery=9, classes=3),
        cloud=CloudEvidence(
            name="cloud", digest=cloud.digest, size_bytes=9, macs=9, params=9, paragon=RETRIEVAL
        ),
        artifacts=(
            measured(good, "phone"),
            measured(bad, "phone", reasons=("it finds too little",)),
        ),
        policy=Policy(),
        timing=Timing(machine="a test", artifacts=()),
    )
    return manifest, report


def test_every_pair_that_was_measured_and_no_other():
    manifest, report = release("1.0.0")
    found = with_release(EMPTY, manifest, report)
    assert [(each.member, each.precision, each.admitted) for each in found.entries] == [
        ("cloud", "fp32", True),
        ("phone", "fp32", True),
        ("phone", "int8", False),
    ]
    assert {each.gallery_generation for each in found.entries} == {"1.0.0"}
    assert {each.report_digest for each in found.entries} == {manifest.report.digest}
    for evidence in report.artifacts:
        entry = found.find(artifact_digest=evidence.digest, gallery="1.0.0")
        assert entry.cross == evidence.cross_test.map.value
        assert entry.criterion == evidence.self_test.map.value
    assert found.generation_of(manifest.cloud.artifacts[0].digest) == "1.0.0"


def test_the_next_release_keeps_the_pairs_of_the_one_before():
    first = with_release(EMPTY, *release("1.0.0", "old"))
    both = with_release(first, *release("1.1.0", "new"))
    assert set(first.entries) < set(both.entries)
    new = artifact("phone new").digest
    assert both.galleries_for(new) == ("1.1.0",)  # nobody measured it on the gallery of 1.0.0


def test_the_same_cloud_model_again_makes_no_new_generation():
    first = with_release(EMPTY, *release("1.0.0"))
    again = with_release(first, *release("1.0.1"))
    assert {each.gallery_generation for each in again.entries} == {"1.0.0"}
    newest = release("1.0.1")[0].report.digest
    assert {each.report_digest for each in again.entries} == {newest}


def test_the_entry_carries_the_scale_that_the_report_fitted():
    manifest, report = release("1.0.0")
    fitted = report.artifacts[0].model_copy(
        update={"calibration": Calibration(scale=1.5, shift=-0.2)}
    )
    report = report.model_copy(update={"artifacts": (fitted, *report.artifacts[1:])})
    found = with_release(EMPTY, manifest, report).entries
    assert [(each.score_scale, each.score_shift) for each in found] == [(1, 0), (1.5, -0.2), (1, 0)]
