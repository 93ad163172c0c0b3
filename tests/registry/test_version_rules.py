"""A version says what it is: of manifests, and of what their reports measured."""

import pytest
from measured import RETRIEVAL, SOME, measured

from compat.errors import RefusedError
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import CloudEvidence, Evidence, Report, Timing
from compat.space import EmbeddingSpace
from registry.version_rules import check_follows, check_parity

ARTIFACT = Artifact(
    digest="a" * 64, size_bytes=1, runtime="litert", precision="int8", admission_cosine=0.9
)
RECIPE = Preprocess(size_px=8)


def manifest(version: str, *, members: str = "a", generation: int = 1) -> ReleaseManifest:
    fields = {"preprocess": RECIPE, "macs": 9, "params": 9, "artifacts": (ARTIFACT,)}
    blob = Blob(digest="b" * 64, size_bytes=1)
    return ReleaseManifest(
        family="furniture",
        version=version,
        space=EmbeddingSpace(family="furniture", generation=generation, dim=4),
        cloud=Model(name="cloud", **fields),
        members=tuple(Member(name=name, golden=blob, **fields) for name in members),
        report=blob,
    )


def report(found: float, *, dataset: str = "0") -> Report:
    """One admitted artifact, whose cross-test reaches mAP ``found``."""
    one = measured(ARTIFACT, "a")
    better = RETRIEVAL.model_copy(update={"map": SOME.model_copy(update={"value": found})})
    return Report(
        family="furniture",
        space=EmbeddingSpace(family="furniture", generation=1, dim=4),
        evidence=Evidence(
            dataset_digest=dataset * 64, split="test", queries=10, gallery=20, classes=5
        ),
        cloud=CloudEvidence(
            name="cloud", digest="c" * 64, size_bytes=1, macs=9, params=9, paragon=RETRIEVAL
        ),
        artifacts=(one.model_copy(update={"cross_test": better}),),
        policy=Policy(),
        timing=Timing(machine="a test", artifacts=()),
    )


@pytest.mark.parametrize(
    ("old", "new", "members", "generation", "refused"),
    [
        ("1.0.0", "1.0.1", "ab", 1, ""),
        ("1.9.0", "1.10.0", "ab", 1, ""),
        ("1.0.0", "1.1.0", "abc", 1, ""),
        ("1.0.0", "2.0.0", "b", 2, ""),
        ("1.0.0", "1.0.0", "ab", 1, "not above"),
        ("1.10.0", "1.9.0", "ab", 1, "not above"),
        ("1.0.0", "1.1.0", "ab", 2, "a major version"),
        ("1.0.0", "1.1.0", "a", 1, "has no member b.*a major version"),
        ("1.0.0", "1.0.1", "abc", 1, "adds the member c.*a minor version"),
    ],
)
def test_a_version_says_what_it_is(old, new, members, generation, refused):
    before = manifest(old, members="ab")
    after = manifest(new, members=members, generation=generation)
    if not refused:
        check_follows(before, after)
        return
    with pytest.raises(RefusedError, match=refused):
        check_follows(before, after)


def test_a_patch_searches_as_well_as_before():
    for found in (0.85, 0.84, 0.99):
        check_parity(report(0.85), report(found), "1.0.1")
    with pytest.raises(RefusedError, match=r"0\.8500 -> 0\.8200.*a minor version"):
        check_parity(report(0.85), report(0.82), "1.0.1")
    with pytest.raises(RefusedError, match="measured on other images"):
        check_parity(report(0.85), report(0.85, dataset="1"), "1.0.1")
