"""Fetching: only the pinned bytes are kept, and a refusal leaves nothing behind."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.data.cache import (
    ChecksumError,
    StaleError,
    adopt,
    claim_folder,
    is_complete,
    write_atomic,
)
from benchmarks.data.packages import FetchError, Package, debian, fetch, npm, unpack


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def package(content: bytes, sha256: str) -> Package:
    """A package whose client is a Python that writes ``content``."""
    write = f"import pathlib; pathlib.Path('p-1.tgz').write_bytes({content!r})"
    return Package("p", "1", "p-1.tgz", sha256, (sys.executable, "-c", write))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_package_is_fetched_once(cache):
    path = fetch(package(b"good", digest(b"good")))
    assert path.read_bytes() == b"good"
    silent = Package("p", "1", "p-1.tgz", digest(b"good"), ("no-such-client",))
    assert fetch(silent) == path
    assert files_in(cache) == ["packages/p-1.tgz"]


def test_other_bytes_than_the_pinned_are_refused_and_nothing_is_left(cache):
    with pytest.raises(ChecksumError, match="pinned"):
        fetch(package(b"evil", digest(b"good")))
    assert files_in(cache) == []


def test_a_spoilt_file_in_the_cache_is_removed_and_fetched_anew(cache):
    write_atomic(cache / "packages/p-1.tgz", b"spoilt")
    good = package(b"good", digest(b"good"))
    with pytest.raises(ChecksumError, match="run again"):
        fetch(good)
    assert files_in(cache) == []
    assert fetch(good).read_bytes() == b"good"


def test_a_failing_client_is_reported_and_nothing_is_left(cache):
    commands = [("no-such-client",), (sys.executable, "-c", "raise SystemExit(3)")]
    for command in (*commands, (sys.executable, "-c", "")):
        with pytest.raises(FetchError):
            fetch(Package("p", "1", "p-1.tgz", digest(b""), command))
    assert files_in(cache) == []


def test_an_adopted_file_replaces_the_old_one_only_when_it_is_right(tmp_path):
    path, fetched = tmp_path / "kept", tmp_path / "fetched"
    path.write_bytes(b"old")
    fetched.write_bytes(b"evil")
    with pytest.raises(ChecksumError):
        adopt(fetched, path, digest(b"new"))
    assert files_in(tmp_path) == ["kept"]
    assert path.read_bytes() == b"old"
    fetched.write_bytes(b"new")
    adopt(fetched, path, digest(b"new"))
    assert files_in(tmp_path) == ["kept"]
    assert path.read_bytes() == b"new"


def test_an_archive_is_unpacked_whole(cache):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/icons.json")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"{}"))
    content = file.getvalue()
    folder = unpack(package(content, digest(content)))
    assert (folder / "package/icons.json").read_bytes() == b"{}"
    assert [path.name for path in (cache / "unpacked").iterdir()] == [folder.name]


def test_a_broken_archive_leaves_no_folder(cache):
    with pytest.raises(tarfile.TarError):
        unpack(package(b"not a tar", digest(b"not a tar")))
    assert list((cache / "unpacked").iterdir()) == []


def test_commands_name_the_exact_version():
    assert debian("a", "1-2", "all", "0").command == ("apt-get", "download", "a=1-2")
    assert debian("a", "1-2", "all", "0").filename == "a_1-2_all.deb"
    assert npm("@s/a", "1.2.3", "0").command[-1] == "@s/a@1.2.3"
    assert npm("@s/a", "1.2.3", "0").filename == "s-a-1.2.3.tgz"


def test_pictures_of_another_recipe_are_not_added_to(tmp_path):
    claim_folder(tmp_path / "set", {"recipe": 1, "seed": 0})
    claim_folder(tmp_path / "set", {"recipe": 1, "seed": 0})
    before = (tmp_path / "set/recipe.json").read_bytes()
    with pytest.raises(StaleError, match="remove it"):
        claim_folder(tmp_path / "set", {"recipe": 2, "seed": 0})
    assert (tmp_path / "set/recipe.json").read_bytes() == before


def test_an_empty_file_is_not_complete(tmp_path):
    assert not is_complete(tmp_path / "missing")
    (tmp_path / "empty").touch()
    assert not is_complete(tmp_path / "empty")
