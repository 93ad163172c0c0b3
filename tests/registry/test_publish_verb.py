"""``kinspace publish`` as people type it: to a bucket, and to a served registry with a token."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from serving import serving
from tiles import SPACE
from tiles_release import workspace_in
from typer.testing import CliRunner

from edge.device import Device
from registry.cli import app
from registry.keys import KeyFolder
from registry.metrics import Metrics
from registry.registry_app import create_registry_app
from registry.repository import Repository
from registry.storage.address import open_store
from registry.storage.files import FileStore
from registry.tokens import TokenBook
from registry.upload_guard import RegistryGuard


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket behind real HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, "test")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="tiles")
        yield f"s3://tiles/prod?endpoint={url}&region=us-east-1&style=path"
        server.stop()


@pytest.fixture
def family(tmp_path: Path) -> Path:
    return workspace_in(tmp_path)


def publish(family: Path, registry: str):
    where = ("--registry", registry, "--keys", family.parent / "keys")
    wanted = ["publish", family, *where, "--out", family.parent / "work", "--json"]
    return CliRunner().invoke(app, [str(each) for each in wanted])


def updated(family: Path, url: str) -> str:
    device = Device(family.parent / "home")
    device.init(url, (family.parent / "keys" / "root.json").read_bytes(), SPACE.family)
    return device.update().version


def test_to_a_bucket(family, bucket):
    done = publish(family, bucket)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["members"] == {"small": ["onnxruntime/fp32"]}
    store = open_store(bucket)
    before = store.list("targets/")
    assert publish(family, bucket).exit_code == 0
    assert store.list("targets/") == before
    with serving(create_registry_app(store, Metrics())) as url:
        assert updated(family, f"{url}/registry") == "1.0.0"


def test_to_a_served_registry(family, tmp_path, monkeypatch):
    keys = KeyFolder(tmp_path / "keys")
    founded = Repository(tmp_path / "registry", keys)
    founded.create()
    founded.add_family(SPACE.family)
    book = tmp_path / "tokens.json"
    store = FileStore(tmp_path / "registry")
    guard = RegistryGuard(store, TokenBook(book), founded.trusted_root)
    with serving(create_registry_app(store, Metrics(), guard=guard)) as url:
        monkeypatch.delenv("KINSPACE_TOKEN", raising=False)
        refused = publish(family, f"{url}/registry")
        assert refused.exit_code == 2, refused.output
        assert "set KINSPACE_TOKEN" in refused.stderr
        wanted = ["token", "new", "--tokens", str(book), "--family", "tiles"]
        made = CliRunner().invoke(app, [*wanted, "--verb", "publish", "--verb", "promote"])
        monkeypatch.setenv("KINSPACE_TOKEN", made.stdout.strip())
        done = publish(family, f"{url}/registry")
        assert done.exit_code == 0, done.output
        assert updated(family, f"{url}/registry") == "1.0.0"
    gone = publish(family, f"{url}/registry")
    assert (gone.exit_code, "no answer" in gone.stderr) == (3, True)
