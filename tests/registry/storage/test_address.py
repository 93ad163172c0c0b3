"""Addresses of stores: read strictly, opened by one function."""

from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from compat.errors import UsageError
from registry.storage.address import S3Address, open_store, parse_s3
from registry.storage.s3 import PART_BYTES


def test_an_address_names_bucket_prefix_and_options() -> None:
    found = parse_s3("s3://b/a/c/?endpoint=http://127.0.0.1:9000&style=path&region=r&sse=AES256")
    assert found == S3Address("b", "a/c", "http://127.0.0.1:9000", "r", "path", "AES256")


@pytest.mark.parametrize(
    "address",
    ["s3://", "s3://k:s@b", "s3://b?colour=x", "s3://b?sse=rot13", "s3://b?style=x", "gs://b",
     "s3://b?region=a&region=b"],
)  # fmt: skip
def test_an_address_with_a_slip_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        open_store(address)


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    open_store(str(tmp_path)).put_new("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_bucket_is_a_store_and_keeps_it_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="sealed")
        at = f"s3://sealed/x?endpoint={url}&region=us-east-1&style=path"
        open_store(f"{at}&sse=aws:kms").put_new("a", b"x")
        open_store(f"{at}&sse=aws:kms").put_new("b", bytes(PART_BYTES + 1))
        for key in ("x/a", "x/b"):
            head = client.head_object(Bucket="sealed", Key=key)
            assert head["ServerSideEncryption"] == "aws:kms"
    finally:
        server.stop()
