"""The contract of storage: one suite on memory, a folder, and S3 over real HTTP."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from compat.errors import ConflictError, CorruptError, NotFoundError, OfflineError, UsageError
from registry.cli_registry import registry_app
from registry.storage.files import FileStore
from registry.storage.http import HttpStore
from registry.storage.port import Store
from registry.storage.s3 import PART_BYTES, S3Store, checksum_of


def test_bytes_come_back_whole_and_in_ranges(store: Store) -> None:
    version = store.put_new("targets/a.bin", b"0123456789")
    assert store.get("targets/a.bin", max_bytes=10).blob == b"0123456789"
    assert store.get("targets/a.bin", max_bytes=10).version == version
    assert store.get_range("targets/a.bin", 3, n_bytes=4) == b"3456"
    assert store.get_range("targets/a.bin", 8, n_bytes=9) == b"89"
    assert store.get_range("targets/a.bin", 10, n_bytes=1) == b""
    with pytest.raises(UsageError, match="more than 9 bytes"):
        store.get("targets/a.bin", max_bytes=9)


def test_a_new_name_is_never_overwritten(store: Store) -> None:
    version = store.put_new("a", b"first")
    assert store.put_new("a", b"first") == version
    for other in (b"other", b"a longer one"):
        with pytest.raises(ConflictError, match="retry"):
            store.put_new("a", other)
    assert store.get("a", max_bytes=99).blob == b"first"


def test_of_two_replacements_one_wins_and_the_other_can_retry(store: Store) -> None:
    seen = store.put_new("timestamp.json", b"1")
    store.replace("timestamp.json", b"2", expected=seen)
    with pytest.raises(ConflictError, match="retry"):
        store.replace("timestamp.json", b"3", expected=seen)
    now = store.get("timestamp.json", max_bytes=9)
    assert now.blob == b"2"
    store.replace("timestamp.json", b"3", expected=now.version)
    assert store.get("timestamp.json", max_bytes=9).blob == b"3"


def test_what_is_not_there(store: Store) -> None:
    assert store.stat("a") is None
    assert store.size("a") is None
    with pytest.raises(NotFoundError):
        store.get("a", max_bytes=9)
    with pytest.raises(ConflictError):
        store.replace("a", b"x", expected='"0"')
    assert store.list("") == ()


def test_names_are_listed_by_prefix(store: Store) -> None:
    for name in ("b/2", "b/1", "c"):
        store.put_new(name, name.encode())
    assert store.list("b/") == ("b/1", "b/2")
    assert store.list("") == ("b/1", "b/2", "c")
    assert store.size("c") == 1


def test_a_name_is_deleted_unless_others_serve_it(store: Store) -> None:
    store.put_new("a", b"x")
    if isinstance(store, HttpStore):
        with pytest.raises(UsageError, match="deletes nothing"):
            store.delete("a")
        assert store.list("") == ("a",)
        return
    store.delete("a")
    store.delete("a")
    assert store.list("") == ()


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "/a", ".store.lock", "a//b", "", "a" * 201, "a/" * 500 + "a"]
)
def test_a_name_cannot_leave_the_store(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        store.put_new(name, b"x")
    assert store.list("") == ()


def test_a_large_body_goes_in_parts_and_a_lost_race_leaves_none(
    endpoint: str, s3_client: Callable[[str], Any]
) -> None:
    client = s3_client(endpoint)
    client.create_bucket(Bucket="large")
    store, blob = S3Store(client, "large"), bytes(PART_BYTES) + b"end"
    version = store.put_new("a", blob)
    assert version.endswith('-2"')
    assert store.get("a", max_bytes=len(blob)).blob == blob
    with pytest.raises(ConflictError):
        store.put_new("a", blob[:-1] + b"x")
    assert store.get("a", max_bytes=len(blob)).version == version
    assert not client.list_multipart_uploads(Bucket="large").get("Uploads")


@pytest.mark.parametrize("blob", [b"small", bytes(PART_BYTES) + b"end"], ids=["small", "parts"])
def test_what_is_there_is_not_sent_again(
    endpoint: str, s3_client: Callable[[str], Any], blob: bytes
) -> None:
    client, calls = s3_client(endpoint), []
    client.create_bucket(Bucket=f"again-{len(blob)}")
    client.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    store = S3Store(client, f"again-{len(blob)}")
    version = store.put_new("a", blob)
    del calls[:]
    assert store.put_new("a", blob) == version
    assert set(calls) <= {"HeadObject", "GetObject"}
    assert (calls == ["HeadObject"]) or len(blob) > PART_BYTES  # moto has no checksum of parts


def test_parts_of_a_killed_publisher_are_swept(
    endpoint: str, s3_client: Callable[[str], Any]
) -> None:
    client = s3_client(endpoint)
    client.create_bucket(Bucket="swept")
    store = S3Store(client, "swept", "mine")
    store.put_new("a", bytes(PART_BYTES) + b"end")
    for key in ("mine/b", "others/b"):
        upload = client.create_multipart_upload(Bucket="swept", Key=key)
        client.upload_part(
            Bucket="swept", Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x"
        )
    assert store.sweep(datetime(2000, 1, 1, tzinfo=UTC)) == ()  # somebody may be at work
    assert store.sweep(datetime.now(UTC)) == ("b",)
    assert store.sweep(datetime.now(UTC)) == ()
    left = client.list_multipart_uploads(Bucket="swept")["Uploads"]
    assert [each["Key"] for each in left] == ["others/b"]
    assert store.list("") == ("a",)


def test_parts_of_files_are_swept_by_the_command(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "r")
    store.put_new("targets/a", b"x")
    part = tmp_path / "r" / "targets" / ".b.1.0.json.77.part"
    part.write_bytes(b"half")
    wanted = ["sweep", str(tmp_path / "r"), "--json"]
    early = CliRunner().invoke(registry_app, wanted)
    assert (early.exit_code, json.loads(early.stdout)) == (0, {"swept": []})
    os.utime(part, (0, 0))
    swept = CliRunner().invoke(registry_app, wanted)
    assert json.loads(swept.stdout) == {"swept": ["targets/b.1.0.json"]}
    assert not part.exists()
    assert store.list("") == ("targets/a",)


class SpoiltObject(BaseHTTPRequestHandler):
    """An S3 server whose disk has lost a bit since it noted the checksum."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.send_header("ETag", '"1"')
        self.send_header("x-amz-checksum-sha256", checksum_of(b"stored"))
        self.end_headers()
        self.wfile.write(b"stoled")

    def log_message(self, *args: object) -> None:
        """Not into the test's output."""


def test_spoilt_bytes_are_never_returned(s3_client: Callable[[str], Any]) -> None:
    with HTTPServer(("127.0.0.1", 0), SpoiltObject) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        store = S3Store(s3_client(f"http://127.0.0.1:{server.server_port}"), "registry")
        with pytest.raises(CorruptError, match="damaged"):
            store.get("a", max_bytes=9)
        thread.join()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = FileStore(tmp_path / "file")
    for call in (
        lambda: store.list(""),
        lambda: store.put_new("a", b"x"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(UsageError, match="file"):
            call()
    assert (tmp_path / "file").read_bytes() == b"x"
    assert FileStore(tmp_path / "missing").list("metadata/") == ()


def test_nobody_answers(s3_client: Callable[[str], Any]) -> None:
    with pytest.raises(OfflineError, match="no answer"):
        S3Store(s3_client("http://127.0.0.1:9"), "registry").stat("a")
