"""Which queries a gallery answers: by the matrix, and by the release's list where there is none."""

import pytest

from compat.errors import SpaceError
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.matrix import CompatibilityMatrix, Entry
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from registry.gallery import GalleryStatus, Generation
from registry.pairing import Pairing

SPACE = EmbeddingSpace(family="chairs", generation=1, dim=8)
OLD_CLOUD, CLOUD, OLD_MEMBER, MEMBER, STRANGER = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)


def artifact(digest: str) -> Artifact:
    return Artifact(
        digest=digest, size_bytes=9, runtime="onnxruntime", precision="fp32", admission_cosine=0.99
    )


def release() -> ReleaseManifest:
    """1.1.0: a new cloud model, and a new member that was measured on both galleries."""
    shared = {"preprocess": Preprocess(size_px=32), "macs": 10, "params": 10}
    golden = Blob(digest="1" * 64, size_bytes=1)
    return ReleaseManifest(
        family="chairs",
        version="1.1.0",
        space=SPACE,
        cloud=Model(name="large", artifacts=(artifact(CLOUD),), **shared),
        members=(Member(name="small", artifacts=(artifact(MEMBER),), golden=golden, **shared),),
        report=Blob(digest="2" * 64, size_bytes=1),
    )


def entry(digest: str, gallery: str, **over: object) -> Entry:
    fields = {
        "member": "small",
        "artifact_digest": digest,
        "runtime": "onnxruntime",
        "precision": "fp32",
        "space": SPACE.id,
        "gallery_generation": gallery,
        "gallery_model": "large",
        "gallery_digest": {"1.0.0": OLD_CLOUD, "1.1.0": CLOUD}[gallery],
        "gallery_space": SPACE.id,
        "admitted": True,
        "cross": 0.4,
        "report_digest": "f" * 64,
    }
    return Entry.model_validate(fields | over)


MATRIX = CompatibilityMatrix(family="chairs").with_entries(
    [
        entry(OLD_MEMBER, "1.0.0"),
        entry(MEMBER, "1.1.0"),
        entry(MEMBER, "1.0.0", score_scale=1.1, score_shift=-0.05),
        entry(OLD_MEMBER, "1.1.0", admitted=False, cross=0.1),
    ]
)


def gallery(*made_by: str) -> GalleryStatus:
    held = tuple(Generation(digest, 50) for digest in made_by)
    return GalleryStatus(SPACE.id, 50 * len(held), 1, held)


def admit(held: GalleryStatus, artifact: str, *, matrix=MATRIX, space=SPACE.id, galleries=None):
    pairing = Pairing(release(), matrix)
    pairing.check(held)
    return pairing.admit(held, space=space, artifact=artifact, galleries=galleries)


@pytest.mark.parametrize(
    ("made_by", "artifact", "said"),
    [
        (CLOUD, MEMBER, None),
        (OLD_CLOUD, MEMBER, None),  # the backfill is not done yet
        (OLD_CLOUD, OLD_MEMBER, None),  # the release does not list it any more, the matrix does
        (CLOUD, OLD_MEMBER, "10.0% was measured and the gate refused it"),
        (CLOUD, STRANGER, "never measured"),
        (OLD_CLOUD, CLOUD, "never measured"),  # a cloud model on a gallery that is not its own
    ],
)
def test_the_matrix_decides_pair_by_pair(made_by, artifact, said):
    found = admit(gallery(made_by), artifact)
    if said is None:
        assert [each.model_digest for each in found.searchable] == [made_by]
        assert found.left_out == 0
    else:
        assert said in found.error


def test_of_a_gallery_in_the_making_only_the_admitted_generations_are_searched():
    both = gallery(CLOUD, OLD_CLOUD)
    found = admit(both, OLD_MEMBER)
    assert (found.generations, found.left_out) == (("1.0.0",), 50)
    assert admit(both, MEMBER).generations == ("1.0.0", "1.1.0")
    assert admit(both, MEMBER, galleries=["1.1.0"]).left_out == 50
    assert admit(gallery(CLOUD, STRANGER), MEMBER).left_out == 50


def test_another_space_is_refused_before_the_pair_is_looked_at():
    found = admit(gallery(CLOUD), MEMBER, space="chairs/g2/8/cosine")
    assert "cannot be compared" in found.error


def test_a_device_that_names_its_galleries_is_not_answered_from_another():
    assert admit(gallery(OLD_CLOUD), MEMBER, galleries=["1.1.0", "1.0.0"]).left_out == 0
    found = admit(gallery(OLD_CLOUD), MEMBER, galleries=["1.1.0"])
    assert "generation 1.0.0" in found.error
    assert "kinspace device update" in found.cure


def test_a_gallery_that_no_signed_document_knows():
    for matrix in (MATRIX, None):
        with pytest.raises(SpaceError, match="build the gallery again"):
            admit(gallery(STRANGER), MEMBER, matrix=matrix)


def test_without_a_matrix_the_release_stands_for_itself():
    for artifact in (MEMBER, CLOUD):
        assert admit(gallery(CLOUD), artifact, matrix=None).generations is None
    assert "does not list" in admit(gallery(CLOUD), OLD_MEMBER, matrix=None).error
    with pytest.raises(SpaceError):
        admit(gallery(OLD_CLOUD), MEMBER, matrix=None)


def test_the_entry_brings_the_calibration_of_the_pair():
    (searched,) = admit(gallery(OLD_CLOUD), MEMBER).searchable
    assert (searched.scale, searched.shift) == (1.1, -0.05)
