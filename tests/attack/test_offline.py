"""Nobody answers, or the answers are of no use: what runs keeps running."""

import http.server
import shutil
import threading
from functools import partial

import pytest

from compat.errors import OfflineError, UntrustedError, UsageError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class _Teapot(_Quiet):
    """Answers every question with an error."""

    def do_GET(self):
        self.send_error(500)


class _Cutter(_Quiet):
    """Promises a body and hangs up in the middle of it."""

    def do_GET(self):
        if "root" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"{")


@pytest.fixture
def serve():
    servers = []

    def start(handler) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def device(small, serve):
    """A device that updated over HTTP from a plain static file server."""
    small.publish("1.0.0", seed=1)
    url = serve(partial(_Quiet, directory=str(small.folder)))
    device = small.open(small.base / "home")
    device.init(url, small.repository.trusted_root, "furniture")
    assert device.update().version == "1.0.0"
    return device


def moved_to(device, url: str, small):
    device.init(url, small.repository.trusted_root, "furniture")


def test_a_static_file_server_is_a_registry(small, device):
    small.publish("1.1.0", seed=2)
    assert device.update().version == "1.1.0"
    assert device.update().changed is False


def test_nobody_listens(small, device, running):
    before = running(device)
    moved_to(device, "http://127.0.0.1:9", small)
    with pytest.raises(OfflineError):
        device.update()
    assert running(device) == before
    assert device.status().last_update.exit_code == 3


@pytest.mark.parametrize("handler", [_Teapot, _Cutter])
def test_a_server_that_fails(small, device, running, serve, handler):
    before = running(device)
    moved_to(device, serve(handler), small)
    with pytest.raises(OfflineError):
        device.update()
    assert running(device) == before


def test_a_captive_portal_answers_every_question_with_a_page(small, device, running, serve):
    class Portal(_Quiet):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

    before = running(device)
    moved_to(device, serve(Portal), small)
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_a_folder_that_is_not_mounted(small, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    shutil.move(small.folder, small.base / "elsewhere")
    with pytest.raises(OfflineError):
        device.update()
    assert running(device) == before
    shutil.move(small.base / "elsewhere", small.folder)
    assert device.update().changed is False


def test_neither_a_url_nor_a_folder(small):
    small.publish("1.0.0", seed=1)
    device = small.open(small.base / "home")
    with pytest.raises(UsageError, match="neither"):
        device.init("ftp://127.0.0.1/x", small.repository.trusted_root, "furniture")
    assert not (device.home / "device.json").exists()
