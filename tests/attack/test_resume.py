"""Downloads that are cut off, and what a thief changes before they go on."""

import http.server
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compat.errors import OfflineError, UntrustedError


@dataclass
class Server:
    """A registry folder over HTTP that cuts artifacts off, and keeps count of what it sent."""

    folder: Path
    has_ranges: bool = True
    has_etags: bool = True
    cut_at: int | None = None  # bytes of an artifact after which the line goes dead
    asked: list[tuple[str, str | None, int]] = field(default_factory=list)  # path, range, status
    sent_bytes: int = 0  # of artifacts
    etag: str = '"one"'

    def handler(server):  # noqa: N805 (the handler's own self is inside)
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = server.folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                blob, start = path.read_bytes(), 0
                wanted = self.headers.get("Range") if server.has_ranges else None
                condition = self.headers.get("If-Range")
                if wanted and (condition is None or condition == server.etag):
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                is_blob = "/blobs/" in self.path
                if is_blob:
                    server.asked.append((path.name[:8], wanted, 206 if start else 200))
                if start >= len(blob) and start:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    place = f"bytes {start}-{len(blob) - 1}/{len(blob)}"
                    self.send_header("Content-Range", place)
                if server.has_etags:
                    self.send_header("ETag", server.etag)
                self.send_header("Content-Length", str(len(blob) - start))
                self.end_headers()
                body = blob[start:]
                if is_blob:
                    body = body[: server.cut_at]
                    server.sent_bytes += len(body)
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        return Handler


@pytest.fixture
def server(small):
    return Server(small.folder)


@pytest.fixture
def device(small, server):
    """A device on 1.0.0 over HTTP; 1.1.0 is offered, with other weights of the same length."""
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), server.handler())
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    small.publish("1.0.0", seed=1)
    device = small.open(small.base / "home")
    url = f"http://127.0.0.1:{http_server.server_port}"
    device.init(url, small.repository.trusted_root, "furniture")
    assert device.update().version == "1.0.0"
    small.publish("1.1.0", seed=2)
    server.asked.clear()
    server.sent_bytes = 0
    yield device
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def wanted(small, device):
    return small.released["1.1.0"].members[0].artifacts[0]


def parts(device) -> dict[str, int]:
    folder = device.home / "trust" / "parts"
    return {path.name: path.stat().st_size for path in folder.iterdir() if not path.suffix}


def cut_off(small, server, device, wanted, *, at: int = 1000):
    """An update whose artifact is cut off; the device as a new process finds it."""
    golden = small.released["1.1.0"].members[0].golden
    server.cut_at = at
    for _ in range(golden.size_bytes // at + 2):  # the golden set comes first, piece by piece
        with pytest.raises(OfflineError):
            device.update()
        if wanted.digest in parts(device):
            break
    assert parts(device)[wanted.digest] == at
    server.cut_at = None
    server.asked.clear()
    server.sent_bytes = 0
    return small.open(device.home)


def test_a_download_goes_on_in_another_process(small, server, device, wanted, running):
    before = running(device)
    device = cut_off(small, server, device, wanted)
    assert running(device) == before
    assert device.update().version == "1.1.0"
    assert server.asked == [(wanted.digest[:8], "bytes=1000-", 206)]
    assert server.sent_bytes == wanted.size_bytes - 1000
    assert parts(device) == {}


def test_a_server_without_ranges_begins_anew(small, server, device, wanted):
    device = cut_off(small, server, device, wanted)
    server.has_ranges = False
    assert device.update().version == "1.1.0"
    assert server.sent_bytes == wanted.size_bytes


@pytest.mark.parametrize("has_etags", [True, False])
def test_attack_the_content_changes_between_cut_and_resume(
    small, server, device, wanted, running, has_etags
):
    """The mirror served other bytes first: never a mixed file, and the right one in the end."""
    before = running(device)
    path = next((small.folder / "targets" / "furniture" / "blobs").glob(f"{wanted.digest}.*"))
    right = path.read_bytes()
    path.write_bytes(b"x" * len(right))
    server.has_etags = has_etags
    device = cut_off(small, server, device, wanted)
    path.write_bytes(right)
    server.etag = '"two"'
    assert running(device) == before
    assert device.update().version == "1.1.0"
    assert running(device)[2] == right
    statuses = [status for _, _, status in server.asked]
    assert statuses == ([200] if has_etags else [206, 200]), "told by ETag, else by the digest"


def test_attack_the_rest_of_a_download_is_forged(small, server, device, wanted, running):
    """The right half first, then other bytes under the same ETag; then once more from the start."""
    before = running(device)
    device = cut_off(small, server, device, wanted)
    path = next((small.folder / "targets" / "furniture" / "blobs").glob(f"{wanted.digest}.*"))
    right = path.read_bytes()
    path.write_bytes(right[:1500] + b"x" * (len(right) - 1500))
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before
    assert wanted.digest not in parts(device)
    assert [status for _, _, status in server.asked] == [206, 200]
    path.write_bytes(right)
    assert device.update().version == "1.1.0"


def test_attack_the_kept_part_is_tampered_with(small, server, device, wanted):
    device = cut_off(small, server, device, wanted)
    part = device.home / "trust" / "parts" / wanted.digest
    part.write_bytes(b"x" * 1000)
    assert device.update().version == "1.1.0"
    assert [status for _, _, status in server.asked] == [206, 200]


@pytest.mark.parametrize("kept", ["longer than signed", "whole", "empty"])
def test_any_length_of_the_kept_part(small, server, device, wanted, kept):
    device = cut_off(small, server, device, wanted)
    path = next((small.folder / "targets" / "furniture" / "blobs").glob(f"{wanted.digest}.*"))
    right = path.read_bytes()
    blob = {"longer than signed": right + b"x", "whole": right, "empty": b""}[kept]
    (device.home / "trust" / "parts" / wanted.digest).write_bytes(blob)
    assert device.update().version == "1.1.0"
    assert server.sent_bytes == (0 if kept == "whole" else wanted.size_bytes)


def test_attack_an_endless_rest(small, server, device, wanted, running):
    """It says that there is more than was signed, and sends it."""
    before = running(device)
    device = cut_off(small, server, device, wanted)
    path = next((small.folder / "targets" / "furniture" / "blobs").glob(f"{wanted.digest}.*"))
    right = path.read_bytes()
    path.write_bytes(right + bytes(2**24))
    with pytest.raises(UntrustedError, match="more than was signed"):
        device.update()
    assert running(device) == before
    assert parts(device).get(wanted.digest) is None
    path.write_bytes(right)
    assert device.update().version == "1.1.0"


def test_attack_a_symlink_where_the_part_is_kept(small, server, device, wanted):
    """And one where the artifact will lie: what they point to stays as it is."""
    victim = small.base / "victim"
    victim.write_bytes(b"precious")
    folder = device.home / "trust" / "parts"
    folder.mkdir(exist_ok=True)
    (folder / wanted.digest).symlink_to(victim)
    (device.home / "blobs" / wanted.digest).symlink_to(victim)
    (device.home / "trust" / "target.part").symlink_to(victim)
    assert device.update().version == "1.1.0"
    assert victim.read_bytes() == b"precious"
    assert not device.active().path.is_symlink()


def test_parts_of_a_release_that_is_offered_no_more_are_removed(small, server, device, wanted):
    device = cut_off(small, server, device, wanted)
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"
    assert parts(device) == {}
    assert not list((device.home / "trust" / "parts").iterdir())
