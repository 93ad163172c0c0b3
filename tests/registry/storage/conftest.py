"""The three stores, S3 over real HTTP on loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from registry.storage.files import FileStore
from registry.storage.memory import MemoryStore
from registry.storage.port import Store
from registry.storage.s3 import S3Store


def connect(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "files", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "files":
        return FileStore(tmp_path)
    client = connect(request.getfixturevalue("endpoint"))
    client.create_bucket(Bucket="registry")
    return S3Store(client, "registry", tmp_path.name)


@pytest.fixture(name="s3_client")
def s3_client_fixture() -> Callable[[str], Any]:
    return connect
