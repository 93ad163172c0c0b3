"""The stores; S3, and a service before a store, over real HTTP on loopback."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from fastapi import FastAPI
from moto.server import ThreadedMotoServer
from serving import serving

from registry.refusals import add_refusals
from registry.signed_files import mount_registry
from registry.storage.files import FileStore
from registry.storage.http import HttpStore
from registry.storage.memory import MemoryStore
from registry.storage.port import Store
from registry.storage.s3 import S3Store
from registry.tokens import Token
from registry.uploads import mount_uploads


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


class AnyGuard:
    """Lets everybody put everything: the contract is that of a store, not of a registry."""

    def enter(self, authorization: str | None, name: str) -> Token:
        return Token(
            id="0" * 8,
            secret_digest="0" * 64,
            families=("*",),
            verbs=("publish",),
            expires=datetime.max.replace(tzinfo=UTC),
        )

    def check(self, token: Token, name: str, blob: bytes) -> None: ...

    def max_bytes(self, name: str) -> int:
        return 2**24


@pytest.fixture(params=["memory", "files", "s3", "http"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    match request.param:
        case "memory":
            yield MemoryStore()
        case "files":
            yield FileStore(tmp_path)
        case "s3":
            client = connect(request.getfixturevalue("endpoint"))
            client.create_bucket(Bucket="registry")
            yield S3Store(client, "registry", tmp_path.name)
        case "http":
            app = FastAPI()
            add_refusals(app)
            behind = FileStore(tmp_path)
            mount_registry(app, behind, is_public=lambda name: True)
            mount_uploads(app, behind, AnyGuard())
            with serving(app) as url:
                yield HttpStore(f"{url}/registry")


@pytest.fixture(name="s3_client")
def s3_client_fixture() -> Callable[[str], Any]:
    return connect
