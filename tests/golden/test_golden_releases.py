"""Releases that were signed in every format there was: each is taken today, none when spoilt."""

import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from compat.errors import UntrustedError, UsageError
from compat.manifest import ReleaseManifest
from edge.device import Device
from edge.trusted import TrustedFiles
from registry.local_release import FIRST_ROOT, LocalRelease
from registry.storage.files import FileStore

HERE = Path(__file__).parent
FAMILY = "tiles"
FORMATS = sorted(HERE.glob("format-*"))
FILES = [path.relative_to(HERE) for each in FORMATS for path in each.rglob("*") if path.is_file()]


def read_everything(registry: Path, home: Path) -> ReleaseManifest:
    """What a device takes and runs, then what only a publisher and a searcher read."""
    root = (registry / FIRST_ROOT).read_bytes()
    device = Device(home / "device")
    device.init(str(registry), root, FAMILY)
    outcome = device.update()
    assert outcome.check.cosine_min > 0.99
    release = LocalRelease(FileStore(registry), FAMILY, home)
    release.fetch_cloud()
    where = f"{registry}/metadata/", f"{registry}/targets/"
    files = TrustedFiles(*where, home / "reader", root)
    files.refresh()
    (signed,) = (registry / "metadata").glob(f"*.{FAMILY}.json")
    for name in Metadata[Targets].from_file(str(signed)).signed.targets:
        assert files.read(name, 2**20)
    return release.manifest


def test_every_format_is_here():
    known = ReleaseManifest.model_fields["format"].default
    assert [each.name for each in FORMATS] == [f"format-{n}" for n in range(1, known + 1)]
    assert sum((HERE / file).stat().st_size for file in FILES) < 300_000


@pytest.mark.parametrize("registry", FORMATS, ids=lambda path: path.name)
def test_an_old_release_is_taken_and_runs(registry, tmp_path):
    manifest = read_everything(registry, tmp_path)
    assert (manifest.family, manifest.version) == (FAMILY, "1.0.0")
    assert f"format-{manifest.format}" == registry.name


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent}/{path.name[-24:]}")
def test_attack_a_flipped_byte_in_any_file(file, tmp_path):
    registry = tmp_path / "registry"
    shutil.copytree(HERE / file.parts[0], registry)
    path = registry.joinpath(*file.parts[1:])
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)
    refusal = UsageError if path == registry / FIRST_ROOT else UntrustedError
    with pytest.raises(refusal):
        read_everything(registry, tmp_path)
