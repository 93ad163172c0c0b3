"""The compatibility matrix: what it admits, what it refuses to be, and that it survives a trip."""

import json

import pytest
from pydantic import ValidationError

from compat.errors import QueryRefusedError, UntrustedError, UsageError
from compat.matrix import CompatibilityMatrix, Entry, matrix_target


def entry(artifact: str = "a", gallery: str = "1.0.0", **over: object) -> Entry:
    """An admitted pair; the cloud model of a gallery has a digest of its own."""
    fields: dict[str, object] = {
        "member": "phone",
        "artifact_digest": artifact * 64,
        "runtime": "litert",
        "precision": "int8",
        "space": "furniture/g1/128/cosine",
        "gallery_generation": gallery,
        "gallery_model": "cloud",
        "gallery_digest": f"{int(gallery.replace('.', '')):064x}",
        "gallery_space": "furniture/g1/128/cosine",
        "admitted": True,
        "cross": 0.4,
        "criterion": 0.3,
        "report_digest": "f" * 64,
    }
    return Entry.model_validate(fields | over)


def matrix(*entries: Entry) -> CompatibilityMatrix:
    return CompatibilityMatrix(family="furniture").with_entries(entries)


def test_what_was_measured_and_admitted_is_allowed_and_nothing_else():
    found = matrix(entry("a"), entry("b", admitted=False), entry("a", "1.1.0"))
    assert found.allows(artifact_digest="a" * 64, gallery="1.0.0") == entry("a")
    assert found.allows(artifact_digest="b" * 64, gallery="1.0.0") is None
    assert found.find(artifact_digest="b" * 64, gallery="1.0.0").admitted is False
    assert found.allows(artifact_digest="c" * 64, gallery="1.0.0") is None
    assert found.allows(artifact_digest="a" * 64, gallery="1.2.0") is None


def test_a_refusal_tells_a_failure_from_silence_and_names_the_cure():
    found = matrix(entry("a"), entry("a", "1.1.0", admitted=False, cross=0.125))
    with pytest.raises(QueryRefusedError, match=r"12\.5% was measured.*may query: 1\.0\.0"):
        found.check(artifact_digest="a" * 64, gallery="1.1.0")
    with pytest.raises(QueryRefusedError, match=r"never measured.*may query: none"):
        found.check(artifact_digest="c" * 64, gallery="1.0.0")
    assert found.check(artifact_digest="a" * 64, gallery="1.0.0") == entry("a")


def test_generations_are_in_the_order_of_numbers_not_of_letters():
    found = matrix(entry("a", "10.0.0"), entry("a", "9.0.0"))
    assert found.galleries_for("a" * 64) == ("9.0.0", "10.0.0")


def test_the_rows_of_a_gallery_name_its_generation():
    found = matrix(entry("a"), entry("a", "1.1.0"))
    assert found.generation_of(entry("a", "1.1.0").gallery_digest) == "1.1.0"
    assert found.generation_of("9" * 64) is None


def test_newer_evidence_for_a_pair_replaces_the_older():
    found = matrix(entry("a"), entry("b")).with_entries([entry("a", cross=0.2, admitted=False)])
    assert len(found.entries) == 2
    assert found.allows(artifact_digest="a" * 64, gallery="1.0.0") is None
    assert found.allows(artifact_digest="b" * 64, gallery="1.0.0")


def test_the_bytes_do_not_depend_on_the_order_of_what_was_added():
    one, other = matrix(entry("a"), entry("b")), matrix(entry("b"), entry("a"))
    assert one.to_bytes() == other.to_bytes()
    assert CompatibilityMatrix.from_bytes(one.to_bytes(), family="furniture") == one


def test_what_a_newer_publisher_adds_survives_a_rewrite():
    tree = json.loads(matrix(entry("a")).to_bytes())
    tree["entries"][0]["seen_in"] = "the future"
    read = CompatibilityMatrix.from_bytes(json.dumps(tree).encode(), family="furniture")
    again = json.loads(read.with_entries([entry("b")]).to_bytes())
    assert again["entries"][0]["seen_in"] == "the future"


@pytest.mark.parametrize(
    "change",
    [
        {"admitted": "perhaps"},
        {"artifact_digest": "a"},
        {"cross": 1.5},
        {"cross": float("nan")},
        {"score_scale": 0},
        {"score_shift": float("inf")},
        {"gallery_space": "furniture/g2/128/cosine"},
        {"space": "shoes/g1/128/cosine", "gallery_space": "shoes/g1/128/cosine"},
    ],
)
def test_entries_that_cannot_be(change):
    good = json.loads(matrix(entry("a")).to_bytes())
    assert CompatibilityMatrix.from_bytes(json.dumps(good).encode(), family="furniture")
    good["entries"][0] |= change
    with pytest.raises(UntrustedError, match="not a compatibility matrix"):
        CompatibilityMatrix.from_bytes(json.dumps(good).encode(), family="furniture")


def test_two_spaces_may_stand_in_a_refusal():
    refused = entry("a", admitted=False, gallery_space="furniture/g2/128/cosine")
    assert matrix(refused).allows(artifact_digest="a" * 64, gallery="1.0.0") is None


@pytest.mark.parametrize(
    "entries",
    [
        [entry("a"), entry("a")],
        [entry("a"), entry("b", gallery_digest="9" * 64)],
        [entry("a"), entry("a", "1.1.0", gallery_digest=entry("a").gallery_digest)],
    ],
)
def test_entries_that_contradict_each_other(entries):
    with pytest.raises(ValidationError):
        CompatibilityMatrix(family="furniture", entries=entries)


@pytest.mark.parametrize("blob", [b"", b"[]", b"\xff", b'{"format": 2, "family": "furniture"}'])
def test_bytes_that_are_no_matrix(blob):
    with pytest.raises(UntrustedError):
        CompatibilityMatrix.from_bytes(blob, family="furniture")


def test_another_familys_matrix_is_not_believed():
    with pytest.raises(UntrustedError, match="furniture's"):
        CompatibilityMatrix.from_bytes(matrix(entry("a")).to_bytes(), family="shoes")


def test_scores_of_a_pair_come_onto_the_reference_scale():
    assert entry("a").calibrated(0.5) == 0.5
    assert entry("a", score_scale=1.2, score_shift=-0.1).calibrated(0.5) == pytest.approx(0.5)


def test_its_name_as_a_target():
    assert matrix_target("furniture") == "furniture/matrix/pairs.json"


def test_pairs_that_contradict_what_is_there_are_not_taken():
    with pytest.raises(UsageError, match=r"gallery 1\.0\.0 is of two cloud models"):
        matrix(entry("a")).with_entries([entry("b", gallery_digest="9" * 64)])
