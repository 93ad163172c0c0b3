"""The matrix as a thief would have it: another family's, last month's, one entry better."""

import json

import pytest

from compat.errors import (
    AdmissionError,
    CorruptError,
    QueryRefusedError,
    UntrustedError,
    UsageError,
)
from compat.files import digest_of
from compat.matrix import CompatibilityMatrix, matrix_target
from edge.search import search
from registry.matrix import stored_matrix

NAME = matrix_target("furniture")


def served_matrix(small) -> bytes:
    return stored_matrix(small.repository, "furniture").to_bytes()


def served_file(small, matrix: bytes):
    """Where the registry keeps a matrix: TUF puts the digest before the name."""
    folder = small.folder / "targets" / "furniture" / "matrix"
    return folder / f"{digest_of(matrix)}.pairs.json"


def sign(small, matrix: CompatibilityMatrix | bytes, family: str = "furniture") -> None:
    blob = matrix if isinstance(matrix, bytes) else matrix.to_bytes()
    small.repository.sign_targets(family, {}, moving={matrix_target(family): blob})


def refuse(small, artifact_digest: str) -> None:
    """The publisher takes back what was admitted."""
    matrix = stored_matrix(small.repository, "furniture")
    entry = matrix.find(artifact_digest=artifact_digest, gallery="1.0.0")
    sign(small, matrix.with_entries([entry.model_copy(update={"admitted": False})]))


def held(device) -> tuple[dict[str, bytes], tuple[str, ...] | None]:
    """Everything that a device runs by, and what it may query."""
    names = ("current.json", "device.json", "root.json")
    files = {name: (device.home / name).read_bytes() for name in names}
    blobs = {path.name: path.read_bytes() for path in (device.home / "blobs").iterdir()}
    return files | blobs, device.galleries()


@pytest.fixture
def device(small):
    """It runs 1.0.0 and may query the gallery of 1.0.0."""
    small.publish("1.0.0", seed=1)
    made = small.device(member="phone")
    made.update()
    assert made.galleries() == ("1.0.0",)
    return made


def test_a_pair_that_is_added_reaches_the_device_without_a_release(small, device):
    matrix = stored_matrix(small.repository, "furniture")
    digest = device.active().artifact.digest
    entry = matrix.find(artifact_digest=digest, gallery="1.0.0")
    newer = {"gallery_generation": "1.1.0", "gallery_digest": "e" * 64}
    sign(small, matrix.with_entries([entry.model_copy(update=newer)]))
    outcome = device.update()
    assert outcome.changed is False
    assert device.galleries() == ("1.0.0", "1.1.0")
    assert device.status().previous is None  # the release is the same


def test_a_tampered_entry(small, device):
    """Bytes of the same length on the mirror: refused becomes admitted."""
    refuse(small, device.active().artifact.digest)
    before = held(device)
    blob = served_matrix(small)
    path = served_file(small, blob)
    path.write_bytes(blob.replace(b'"admitted": false', b'"admitted": true ', 1))
    assert len(path.read_bytes()) == len(blob)
    with pytest.raises(UntrustedError):
        device.update()
    assert held(device) == before
    path.write_bytes(blob)
    assert device.update().artifact == "onnxruntime/fp32"  # int8 was taken back


def test_a_matrix_rolled_back(small, device):
    """The mirror answers with the matrix from before a pair was taken back."""
    old = served_matrix(small)
    refuse(small, device.active().artifact.digest)
    before = held(device)
    path = served_file(small, served_matrix(small))
    assert served_file(small, old).exists()  # old files stay: names hold digests
    path.write_bytes(old)
    with pytest.raises(UntrustedError):
        device.update()
    assert held(device) == before


def test_the_matrix_of_another_family_under_this_ones_name(small, device):
    """Signed by mistake: it is whole, and says itself whose it is."""
    small.publish("1.0.0", family="shoes", seed=2)
    shoes = stored_matrix(small.repository, "shoes").to_bytes()
    before = held(device)
    sign(small, shoes)
    with pytest.raises(UntrustedError, match="shoes"):
        device.update()
    assert held(device) == before


def test_a_key_of_another_family_signs_no_matrix_of_this_one(small, device):
    small.publish("1.0.0", family="shoes", seed=2)
    before = held(device)
    served = {path: path.read_bytes() for path in small.files()}
    with pytest.raises(UsageError, match="no name of a target of family shoes"):
        small.repository.sign_targets("shoes", {}, moving={NAME: served_matrix(small)})
    assert {path: path.read_bytes() for path in small.files()} == served
    assert device.update().changed is False
    assert held(device) == before


def test_an_artifact_that_the_matrix_does_not_know(small, device):
    """A release whose artifacts have no pair: nothing of it is taken."""
    before = held(device)
    matrix = stored_matrix(small.repository, "furniture")
    small.publish("1.1.0", seed=2)
    sign(small, matrix)  # the pairs of 1.1.0 are gone again
    with pytest.raises(AdmissionError, match="matrix of furniture admits none"):
        device.update()
    assert held(device) == before


@pytest.mark.parametrize("blob", [b"", b"{}", b'{"format": 2, "family": "furniture"}', b"[" * 9999])
def test_signed_bytes_that_are_no_matrix(small, device, blob):
    before = held(device)
    sign(small, blob)
    with pytest.raises(UntrustedError):
        device.update()
    assert held(device) == before


def test_a_matrix_that_the_disk_spoilt(small, device):
    state = json.loads((device.home / "current.json").read_text())
    path = device.home / "blobs" / state["current"]["matrix"]["digest"]
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"admitted": true', b'"admitted": null'))
    with pytest.raises(CorruptError):
        device.galleries()
    device.update()
    assert path.read_bytes() == good
    assert device.galleries() == ("1.0.0",)


def test_nothing_leaves_a_device_whose_artifact_may_query_nothing(device):
    """The address would refuse the connection: it is never asked."""
    active = device.active()
    options = {
        "space_id": active.manifest.space.id,
        "artifact_digest": active.artifact.digest,
    }
    tensor = active.member.preprocess.tensor(device.golden().images[0])
    embedding = device.embedder().embed(tensor[None])[0]
    with pytest.raises(QueryRefusedError, match="no gallery"):
        search("http://127.0.0.1:1", embedding, galleries=(), **options)


def test_entries_that_lie_about_spaces_are_no_matrix(small, device):
    before = held(device)
    tree = json.loads(served_matrix(small))
    tree["entries"][0]["gallery_space"] = "furniture/g2/4/cosine"
    sign(small, json.dumps(tree).encode())
    with pytest.raises(UntrustedError, match="different spaces are never compared"):
        device.update()
    assert held(device) == before
