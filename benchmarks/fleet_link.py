"""A bad line to a registry: a real HTTP server on loopback that drops, cuts and stalls answers."""

import contextlib
import http.server
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

STALL_S = 11.0  # longer than a device waits between two pieces (`edge.fetch.TIMEOUT_S`)


@dataclass(frozen=True)
class Line:
    """Chances that one answer goes wrong."""

    dropped: float = 0.03  # the connection closes before the answer
    cut: float = 0.03  # the connection closes in the middle of it
    stalled: float = 0.0005  # the answer stops in the middle, the connection stays


@dataclass
class Served:
    """The server's address, and what became of its answers."""

    url: str
    answers: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0


@contextlib.contextmanager
def served_badly(folder: Path, line: Line, seed: int) -> Iterator[Served]:
    """Serve ``folder`` over ``line`` until the block ends."""
    lock, rng = threading.Lock(), random.Random(seed)
    root = folder.resolve()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection an update, as with any server of today

        def do_GET(self) -> None:
            path = (root / unquote(self.path.partition("?")[0]).lstrip("/")).resolve()
            blob = path.read_bytes() if path.is_relative_to(root) and path.is_file() else None
            with lock:
                fate = _fate(rng.random(), line)
                found.answers[fate if blob is not None else "not found"] += 1
            self.close_connection = self.close_connection or fate != "served"
            if fate == "dropped":
                return
            if blob is None:
                self.send_error(404)
                return
            sent = blob if fate == "served" else blob[: len(blob) // 2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(blob)))
            self.end_headers()
            self.wfile.write(sent)
            with lock:
                found.sent_bytes += len(sent)
            if fate == "stalled":
                self.wfile.flush()
                time.sleep(STALL_S)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _fate(chance: float, line: Line) -> str:
    for fate, share in (
        ("dropped", line.dropped),
        ("cut", line.cut),
        ("stalled", line.stalled),
    ):
        if chance < share:
            return fate
        chance -= share
    return "served"
