"""The gate of publication: only what the report admitted, bound to exactly these bytes."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measured import RETRIEVAL, measured

from compat.errors import (
    ConflictError,
    CorruptError,
    RefusedError,
    UsageError,
)
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import Artifact, Blob, Channel, Member, Model, ReleaseManifest
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import (
    CloudEvidence,
    Evidence,
    Report,
    Timing,
)
from compat.space import EmbeddingSpace
from registry.keys import KeyFolder
from registry.publish import Candidate, assemble, publish
from registry.repository import Repository
from registry.storage.memory import MemoryStore
from registry.storage.port import Store, Stored

SPACE = EmbeddingSpace(family="furniture", generation=1, dim=4)
RECIPE = Preprocess(size_px=8)
PRECISIONS = ("fp32", "fp16", "int8")


def artifact(blob: bytes, precision: str = "fp32") -> Artifact:
    return Artifact(
        digest=digest_of(blob),
        size_bytes=len(blob),
        runtime="onnxruntime",
        precision=precision,
        admission_cosine=0.9,
    )


def model(name: str, *artifacts: Artifact, golden: bytes | None = None) -> Model:
    fields = {"name": name, "preprocess": RECIPE, "macs": 9, "params": 9, "artifacts": artifacts}
    if golden is None:
        return Model(**fields)
    return Member(golden=Blob(digest=digest_of(golden), size_bytes=len(golden)), **fields)


def candidate(
    version: str = "1.0.0", *, refused: frozenset[str] = frozenset(), salt: str = ""
) -> Candidate:
    """Members a and b with three artifacts each; those of ``refused`` ("a fp32") fail the gate."""
    blobs, members, judged = {}, [], []
    for name in ("a", "b"):
        files = {each: f"{name} {each} {salt}".encode() for each in PRECISIONS}
        artifacts = tuple(artifact(blob, precision) for precision, blob in files.items())
        rows = {each.digest: np.ones((1, 4), np.float32) / 2 for each in artifacts}
        golden = GoldenSet((name.encode(),), np.zeros((1, 8, 8, 3), np.uint8), rows).to_bytes()
        members.append(model(name, *artifacts, golden=golden))
        blobs |= {digest_of(blob): blob for blob in (*files.values(), golden)}
        for each in artifacts:
            words = ("it finds too little",) if f"{name} {each.precision}" in refused else ()
            judged.append(measured(each, name, reasons=words))
    cloud = f"cloud {salt}".encode()
    blobs[digest_of(cloud)] = cloud
    report = Report(
        family="furniture",
        space=SPACE,
        evidence=Evidence(dataset_digest="0" * 64, split="test", queries=9, gallery=9, classes=3),
        cloud=CloudEvidence(
            name="cloud",
            digest=digest_of(cloud),
            size_bytes=len(cloud),
            macs=9,
            params=9,
            paragon=RETRIEVAL,
        ),
        artifacts=tuple(judged),
        policy=Policy(),
        timing=Timing(machine="a test", artifacts=()),
    )
    return Candidate(
        version=version,
        space=SPACE,
        report=report.to_bytes(),
        cloud=model("cloud", artifact(cloud)),
        members=tuple(members),
        blobs=blobs,
    )


def assembled(of: Candidate, **changed: object) -> ReleaseManifest:
    of = dataclasses.replace(of, **changed)
    return assemble(
        of.report, space=of.space, cloud=of.cloud, members=of.members, version=of.version
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    made.create()
    made.add_family("furniture")
    return made


def served(repository: Repository) -> dict[Path, bytes]:
    return {
        path: path.read_bytes() for path in repository.store.folder.rglob("*") if path.is_file()
    }


ALL = [f"{name} {precision}" for name in ("a", "b") for precision in PRECISIONS]


@pytest.mark.parametrize(
    "refused", [frozenset(each) for n in range(6) for each in itertools.combinations(ALL, n)]
)
def test_a_release_lists_what_was_admitted_and_nothing_else(refused):
    manifest = assembled(candidate(refused=refused))
    listed = [
        f"{member.name} {each.precision}"
        for member in manifest.members
        for each in member.artifacts
    ]
    assert listed == [each for each in ALL if each not in refused]
    assert {member.name for member in manifest.members} == {each[0] for each in listed}


def test_the_report_itself_is_bound_to_the_release():
    of = candidate()
    assert assembled(of).report.digest == digest_of(of.report)


def test_nothing_admitted_is_no_release():
    with pytest.raises(RefusedError, match="a onnxruntime/fp32: it finds too little"):
        assembled(candidate(refused=frozenset(ALL)))


def test_an_artifact_that_the_report_does_not_know():
    of = candidate()
    stranger = of.members[0].model_copy(update={"artifacts": (artifact(b"never measured"),)})
    with pytest.raises(RefusedError, match="does not speak of a onnxruntime/fp32"):
        assembled(of, members=(stranger, of.members[1]))


@pytest.mark.parametrize("changed", [{"precision": "int8"}, {"size_bytes": 1}])
def test_an_artifact_that_the_report_knows_as_something_else(changed):
    of = candidate()
    relabelled = of.members[0].artifacts[0].model_copy(update=changed)
    member = of.members[0].model_copy(update={"artifacts": (relabelled,)})
    with pytest.raises(RefusedError, match="it calls"):
        assembled(of, members=(member,))


def test_a_members_artifact_under_another_members_name():
    of = candidate()
    swapped = of.members[0].model_copy(update={"artifacts": of.members[1].artifacts})
    with pytest.raises(RefusedError, match="it calls"):
        assembled(of, members=(swapped,))


def test_another_cloud_model_than_the_one_measured():
    of = candidate()
    with pytest.raises(RefusedError, match="another cloud model"):
        assembled(of, cloud=model("cloud", artifact(b"other weights")))
    with pytest.raises(RefusedError, match="another cloud model"):
        assembled(of, cloud=model("cloud", *of.cloud.artifacts, artifact(b"one more")))


@pytest.mark.parametrize("changed", [{"family": "shoes"}, {"generation": 2}, {"dim": 8}])
def test_a_report_of_another_family_or_space(changed):
    space = SPACE.model_copy(update=changed)
    with pytest.raises(RefusedError, match="it is of space furniture/g1/4/cosine"):
        assembled(candidate(), space=space)


@pytest.mark.parametrize("version", ["1", "1.0", "01.0.0", "../1.0.0", "1.0.0-rc1"])
def test_versions_that_are_none(version):
    with pytest.raises(UsageError):
        assembled(candidate(), version=version)


def test_a_report_that_is_none():
    with pytest.raises(UsageError):
        assembled(candidate(), report=b"{}")


def test_a_release_is_published_whole(repository):
    of = candidate(refused=frozenset({"a int8"}))
    manifest = publish(repository, of)

    def read(name: str) -> bytes | None:
        return repository.read("furniture", f"furniture/{name}", max_bytes=2**20)

    assert ReleaseManifest.from_bytes(read("releases/1.0.0.json")) == manifest
    assert Channel.from_bytes(read("channels/stable.json")).version == "1.0.0"
    assert read(f"blobs/{manifest.report.digest}") == of.report
    named = [*manifest.cloud.artifacts]
    for member in manifest.members:
        named += [*member.artifacts, member.golden]
    assert len(named) == 8
    for each in named:
        assert read(f"blobs/{each.digest}") == of.blobs[each.digest]
    assert read(f"blobs/{digest_of(b'a int8 ')}") is None  # refused, so not published either


def test_publishing_the_same_again_changes_nothing(repository):
    publish(repository, candidate())
    publish(repository, candidate("1.1.0", salt="new"))
    before = served(repository)
    assert publish(repository, candidate()).version == "1.0.0"  # nor does it move the channel
    assert served(repository) == before


def test_a_published_version_is_never_another_release(repository):
    publish(repository, candidate())
    before = served(repository)
    with pytest.raises(RefusedError, match="choose a new version"):
        publish(repository, candidate(salt="other"))
    assert served(repository) == before


def test_a_lower_version_does_not_take_the_channel(repository):
    publish(repository, candidate("1.1.0"))
    before = served(repository)
    with pytest.raises(RefusedError, match="not above"):
        publish(repository, candidate("1.0.0", salt="old"))
    assert served(repository) == before


class Meddled(MemoryStore):
    """Somebody else acts just before the ``at``-th read of a document."""

    def __init__(self, at: int, meddle: Callable[[Store], None]) -> None:
        super().__init__()
        self._at, self._meddle, self.reads = at, meddle, 0

    def get(self, name: str, *, max_bytes: int) -> Stored:
        self.reads += 1
        if self.reads == self._at:
            self._meddle(self)
        return super().get(name, max_bytes=max_bytes)


def test_a_rival_at_any_read_keeps_the_channel(tmp_path):
    """1.2.0 comes out while 1.1.0 is being decided: never does the channel go back to 1.1.0."""
    keys, at, refused = KeyFolder(tmp_path / "keys"), 0, set()
    newer, newest = candidate("1.1.0", salt="new"), candidate("1.2.0", salt="newest")

    def rival(store: Store) -> None:
        publish(Repository(store, keys), newest)

    while True:
        store = Meddled(0, rival)
        repository = Repository(store, keys)
        repository.create()
        repository.add_family("furniture")
        publish(repository, candidate())
        store._at = store.reads + (at := at + 1)
        try:
            publish(repository, newer)
        except (ConflictError, RefusedError) as error:
            refused.add(type(error))
        else:
            break
        stable = repository.read("furniture", "furniture/channels/stable.json", max_bytes=2**20)
        assert Channel.from_bytes(stable).version == "1.2.0"
    assert at > 15, "the rival never came"
    assert refused == {ConflictError, RefusedError}


@pytest.mark.parametrize("change", [lambda blob: None, lambda blob: blob + b"x", lambda blob: b""])
def test_bytes_that_are_missing_or_damaged(repository, change):
    before = served(repository)
    of = candidate()
    digest = of.members[1].artifacts[2].digest
    blobs = {**of.blobs, digest: change(of.blobs[digest])}
    with pytest.raises(CorruptError):
        publish(repository, dataclasses.replace(of, blobs=blobs))
    assert served(repository) == before


def test_a_golden_set_that_is_silent_on_an_artifact(repository):
    """Every device would refuse it: so does the publisher."""
    before = served(repository)
    of = candidate()
    other = of.members[1].golden
    member = of.members[0].model_copy(update={"golden": other})
    with pytest.raises(RefusedError, match="golden set of a"):
        publish(repository, dataclasses.replace(of, members=(member,)))
    assert served(repository) == before


def test_a_family_that_the_registry_does_not_have(tmp_path):
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    before = served(repository)
    with pytest.raises(UsageError, match="no family furniture"):
        publish(repository, candidate())
    assert served(repository) == before
