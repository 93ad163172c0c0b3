"""The fetcher: pieces as they come, a floor for the rate, and every failure a download error."""

import socket
import threading

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError

from compat.errors import UsageError
from edge.fetch import FolderFetcher, HttpFetcher, fetcher_of


@pytest.fixture
def raw_server():
    """Answers one request with what the test's function writes."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads = []

    def start(talk):
        def run():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                try:
                    talk(connection)
                except OSError:
                    return

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/file"

    yield start
    for thread in threads:
        thread.join(timeout=5)
    listening.close()


def head(length):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()


def test_a_body_comes_whole(raw_server):
    url = raw_server(lambda c: c.sendall(head(5) + b"hello"))
    assert HttpFetcher().download_bytes(url, 5) == b"hello"


def test_attack_one_byte_a_second(raw_server):
    """Each byte resets a time-out between bytes; the rate gives it away."""
    clock = iter(range(0, 10_000, 1))
    stop = threading.Event()

    def drip(connection):
        connection.sendall(head(100))
        while not stop.is_set():
            connection.sendall(b"x")
            stop.wait(0.01)

    url = raw_server(drip)
    fetcher = HttpFetcher(grace_s=20, now=lambda: float(next(clock)))
    with pytest.raises(SlowRetrievalError, match=r"sent \d+ bytes in 2\d s: too slow"):
        fetcher.download_bytes(url, 100)
    stop.set()


def test_attack_a_server_that_falls_silent(raw_server):
    stop = threading.Event()

    def hang(connection):
        connection.sendall(head(100) + b"x")
        stop.wait(5)

    url = raw_server(hang)
    with pytest.raises(SlowRetrievalError, match="stopped sending"):
        HttpFetcher(timeout_s=0.2).download_bytes(url, 100)
    stop.set()


def test_attack_a_lying_content_length(raw_server):
    url = raw_server(lambda c: c.sendall(head(100) + b"short"))
    with pytest.raises(DownloadError, match="broke off"):
        HttpFetcher().download_bytes(url, 100)


def test_attack_an_endless_body(raw_server):
    stop = threading.Event()

    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b"x" * 65536)

    url = raw_server(flood)
    with pytest.raises(DownloadError):
        HttpFetcher().download_bytes(url, 1000)
    stop.set()


def test_an_error_status_is_told(raw_server):
    url = raw_server(lambda c: c.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(DownloadHTTPError, match="answered 503") as caught:
        HttpFetcher().download_bytes(url, 100)
    assert caught.value.status_code == 503


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(DownloadError, match="cannot reach"):
        HttpFetcher().download_bytes(f"http://127.0.0.1:{port}/x", 10)


def test_a_folder_answers_too(tmp_path):
    (tmp_path / "file").write_bytes(b"hello")
    assert fetcher_of(str(tmp_path)).download_bytes(str(tmp_path / "file"), 5) == b"hello"
    with pytest.raises(DownloadHTTPError):
        FolderFetcher().download_bytes(str(tmp_path / "none"), 5)
    with pytest.raises(UsageError, match="neither an http"):
        fetcher_of("ftp://host/x")
