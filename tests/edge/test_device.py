"""A device's choices, its slots and its updates; what attackers try is in tests/attack."""

import io
import itertools
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compat.embedding import unit_rows
from compat.errors import CorruptError, OfflineError, UsageError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import (
    Artifact,
    Blob,
    Channel,
    Member,
    Model,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from edge.choice import installed_runtimes
from edge.device import Device
from registry.keys import KeyFolder
from registry.repository import Repository

RECIPE = Preprocess(size_px=8)
SPACE = EmbeddingSpace(family="furniture", generation=1, dim=3)
FORMATS = tuple(itertools.product(("onnxruntime", "litert"), ("fp32", "fp16", "int8")))


class MeanColour:
    """(N, S, S, 3) -> mean of each channel times the gains that are the artifact's bytes."""

    preprocess, dim = RECIPE, 3

    def __init__(self, path: Path) -> None:
        self._gains = np.frombuffer(path.read_bytes()[:12], dtype="<f4")  # (3,)

    def embed(self, tensors):
        return unit_rows(tensors.mean(axis=(1, 2)) * self._gains, "embeddings")


def open_mean_colour(path, runtime, preprocess, dim):
    return MeanColour(path)


def gains(member: str, label: str, salt: str) -> bytes:
    rng = np.random.default_rng(list(f"{member} {label} {salt}".encode()))
    return rng.uniform(1, 2, size=3).astype("<f4").tobytes()


def release(
    version: str, *, salt: str = "", names: tuple[str, ...] = ("phone", "watch")
) -> tuple[ReleaseManifest, dict[str, bytes]]:
    """A manifest and its blobs by digest; another ``salt`` is other artifacts."""
    file = io.BytesIO()
    Image.new("RGB", (9, 9), (200, 100, 50)).save(file, "PNG")
    pixels = RECIPE.pixels(file.getvalue())[None]
    mean = RECIPE.normalised(pixels).mean(axis=(1, 2))  # (1, 3)
    blobs, members = {}, []
    for name in names:
        artifacts, embeddings = [], {}
        for runtime, precision in FORMATS:
            blob = gains(name, f"{runtime}/{precision}", salt)
            digest = digest_of(blob)
            blobs[digest] = blob
            embeddings[digest] = unit_rows(mean * np.frombuffer(blob, "<f4"), "x")
            artifacts.append(
                Artifact(
                    digest=digest,
                    size_bytes=len(blob),
                    runtime=runtime,
                    precision=precision,
                    admission_cosine=0.999,
                )
            )
        golden = GoldenSet((file.getvalue(),), pixels, embeddings).to_bytes()
        blobs[digest_of(golden)] = golden
        members.append(
            Member(
                name=name,
                preprocess=RECIPE,
                macs=1,
                params=3,
                artifacts=tuple(artifacts),
                golden=Blob(digest=digest_of(golden), size_bytes=len(golden)),
            )
        )
    cloud = Model(
        name="cloud", preprocess=RECIPE, macs=1, params=3, artifacts=members[0].artifacts[:1]
    )
    manifest = ReleaseManifest(
        family="furniture",
        version=version,
        space=SPACE,
        cloud=cloud,
        members=tuple(members),
        report=Blob(digest="0" * 64, size_bytes=0),
    )
    return manifest, blobs


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    made.create()
    made.add_family("furniture")
    return made


@pytest.fixture
def publish(repository: Repository) -> Callable[..., ReleaseManifest]:
    def sign(version: str, **kwargs: object) -> ReleaseManifest:
        manifest, blobs = release(version, **kwargs)
        pointer = Channel(family="furniture", channel="stable", version=version)
        repository.sign_targets(
            "furniture",
            {blob_target("furniture", digest): blob for digest, blob in blobs.items()}
            | {manifest_target("furniture", version): manifest.to_bytes()},
            moving={channel_target("furniture", "stable"): pointer.to_bytes()},
        )
        return manifest

    return sign


@pytest.fixture
def device(repository: Repository, tmp_path: Path) -> Device:
    made = Device(
        tmp_path / "home", open_embedder=open_mean_colour, runtimes=("litert", "onnxruntime")
    )
    made.init(str(repository.store.folder), repository.trusted_root, "furniture")
    return made


def blob_names(device: Device) -> set[str]:
    return {path.name for path in (device.home / "blobs").iterdir()}


# Choosing


def test_installed_runtimes_are_found_without_loading_them():
    code = (
        "import sys; from edge.choice import installed_runtimes as found; print(found());"
        "print(sorted({'onnxruntime', 'ai_edge_litert', 'torch', 'lancedb'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(installed_runtimes()), "[]"]


# Setting up


def test_a_home_that_is_no_device(tmp_path):
    device = Device(tmp_path / "home")
    for ask in (device.update, device.active, device.status, device.config):
        with pytest.raises(UsageError):
            ask()
    assert not (tmp_path / "home").exists()


def test_a_device_before_its_first_update(device):
    assert device.status().current is None
    with pytest.raises(UsageError, match="device update"):
        device.active()


@pytest.mark.parametrize("root", [b"", b"{}", b"\xff", b'{"signatures": [], "signed": {}}'])
def test_a_root_that_is_none(repository, tmp_path, root):
    device = Device(tmp_path / "home")
    with pytest.raises(UsageError, match="root"):
        device.init(str(repository.store.folder), root, "furniture")
    assert not (device.home / "device.json").exists()


@pytest.mark.parametrize(("member", "family"), [("../x", "furniture"), (None, "../x"), (None, "")])
def test_names_that_are_none(repository, tmp_path, member, family):
    device = Device(tmp_path / "home")
    with pytest.raises(UsageError):
        device.init(str(repository.store.folder), repository.trusted_root, family, member=member)
    assert not (device.home / "device.json").exists()


def test_root_and_family_stay(device, repository, tmp_path):
    before = {path: path.read_bytes() for path in device.home.rglob("*.json")}
    other = Repository(tmp_path / "other", KeyFolder(tmp_path / "other-keys"))
    other.create()
    for root, family in [(other.trusted_root, "furniture"), (repository.trusted_root, "shoes")]:
        with pytest.raises(UsageError, match="new home"):
            device.init(str(repository.store.folder), root, family)
    assert {path: path.read_bytes() for path in device.home.rglob("*.json")} == before


def test_a_mirror_is_as_good_as_the_registry(device, repository, publish, tmp_path):
    publish("1.0.0")
    device.update()
    shutil.move(repository.store.folder, tmp_path / "mirror")
    device.init(str(tmp_path / "mirror"), repository.trusted_root, "furniture")
    assert device.update().changed is False


# Updating


def test_an_update_brings_a_model_that_embeds(device, publish):
    manifest = publish("1.0.0")
    outcome = device.update()
    assert (outcome.changed, outcome.version, outcome.member) == (True, "1.0.0", "phone")
    assert outcome.artifact == "litert/int8"
    assert outcome.check.cosine_min > 0.9999
    active = device.active()
    assert active.manifest == manifest
    assert digest_of(active.path.read_bytes()) == active.artifact.digest
    grey = np.full((1, 8, 8, 3), 0.5, np.float32)
    expected = np.frombuffer(gains("phone", "litert/int8", ""), "<f4")
    np.testing.assert_allclose(
        device.embedder().embed(grey)[0], expected / np.linalg.norm(expected), atol=1e-6
    )


def test_updating_again_changes_nothing(device, publish):
    publish("1.0.0")
    device.update()
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (device.home / "current.json", *(device.home / "blobs").iterdir())
    }
    assert device.update().changed is False
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_the_previous_release_is_kept_and_older_ones_are_not(device, publish):
    names = []
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        publish(version, salt=version)
        device.update()
        slot = device.status().current
        names.append({slot.manifest.digest, slot.artifact.digest, slot.golden.digest})
    assert device.status().previous.version == "1.1.0"
    assert blob_names(device) == names[1] | names[2]


def test_nothing_is_fetched_twice(device, publish, repository):
    """A patch that shares the artifact: the registry need not even have it any longer."""
    publish("1.0.0")
    device.update()
    publish("1.0.1")
    digest = device.active().artifact.digest
    [stored] = repository.store.folder.glob(f"targets/furniture/blobs/{digest}.*")
    stored.unlink()
    assert device.update().version == "1.0.1"
    assert device.status().previous.version == "1.0.0"


def test_what_an_interrupted_update_fetched_is_not_fetched_again(device, publish, repository):
    publish("1.0.0")
    device.update()
    manifest = publish("1.1.0", salt="new")
    first = next(each for each in manifest.members[0].artifacts if each.label == "litert/int8")
    [artifact] = repository.store.folder.glob(f"targets/furniture/blobs/{first.digest}.*")
    [golden] = repository.store.folder.glob(
        f"targets/furniture/blobs/{manifest.members[0].golden.digest}.*"
    )
    hidden = artifact.rename(artifact.with_name("hidden"))
    with pytest.raises(OfflineError):
        device.update()
    hidden.rename(artifact)
    golden.unlink()
    assert device.update().version == "1.1.0"


def test_another_member_is_an_update_too(device, publish, repository):
    publish("1.0.0")
    device.update()
    device.init(str(repository.store.folder), repository.trusted_root, "furniture", member="watch")
    assert device.active().member.name == "phone"  # until the update
    outcome = device.update()
    assert (outcome.changed, outcome.member, outcome.version) == (True, "watch", "1.0.0")
    assert device.status().previous.member == "phone"


def test_a_wished_runtime_is_an_update_too(device, publish, repository):
    publish("1.0.0")
    device.update()
    device.init(
        str(repository.store.folder), repository.trusted_root, "furniture", runtime="onnxruntime"
    )
    assert device.update().artifact == "onnxruntime/int8"


def test_a_wished_member_that_left_the_family(device, publish, repository):
    publish("1.0.0")
    device.init(str(repository.store.folder), repository.trusted_root, "furniture", member="watch")
    device.update()
    publish("1.1.0", salt="new", names=("phone",))
    with pytest.raises(UsageError, match="no member watch"):
        device.update()
    assert device.active().manifest.version == "1.0.0"


# Bad disks


def test_a_spoilt_artifact_is_noticed_and_mended(device, publish):
    publish("1.0.0", salt="old")
    device.update()
    publish("1.1.0")
    device.update()
    path = device.active().path
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CorruptError, match="device update"):
        device.active()
    assert device.update().changed is True
    assert device.active().path.read_bytes() == good
    assert device.status().previous.version == "1.0.0"  # mending is no new release


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"current": null}', b'{"current": {"a": 1}}'])
def test_a_spoilt_state_is_noticed_and_mended(device, publish, spoilt):
    publish("1.0.0")
    device.update()
    (device.home / "current.json").write_bytes(spoilt)
    for ask in (device.active, device.status):
        with pytest.raises(CorruptError, match="device update"):
            ask()
    assert device.update().changed is True
    assert device.active().manifest.version == "1.0.0"


@pytest.mark.parametrize("name", ["device.json", "last.json"])
def test_a_spoilt_record_is_named(device, publish, name):
    publish("1.0.0")
    device.update()
    (device.home / name).write_bytes(b"{")
    with pytest.raises(CorruptError, match=name):
        device.status()


def test_a_full_disk_leaves_the_old_release(device, publish):
    """The system itself refuses to write more than 100 bytes to a file."""
    publish("1.0.0")
    device.update()
    before = (device.home / "current.json").read_bytes()
    publish("1.1.0", salt="new")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(UsageError, match="cannot write"):
            device.update()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (device.home / "current.json").read_bytes() == before
    assert device.active().manifest.version == "1.0.0"
    assert device.update().version == "1.1.0"
