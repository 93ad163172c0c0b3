"""The search service as a process of its own: started, waited for, stopped."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compat.errors import OfflineError

START_TIMEOUT_S = 180.0


@contextmanager
def running_server(registry: Path, gallery: Path, family: str, images: Path) -> Iterator[str]:
    """Run ``kinspace serve`` on a free port of this machine; yields its URL.

    Raises:
        OfflineError: it did not come up. Remedy: run the command that the message names.
    """
    command = [sys.executable, "-m", "registry.cli", "serve", "--port", "0"]
    command += ["--registry", str(registry), "--gallery", str(gallery), "--family", family]
    command += ["--images", str(images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(START_TIMEOUT_S, process.kill)
        timer.start()
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            timer.cancel()
            if not url.startswith("http"):
                raise OfflineError(f"the search service did not start: {' '.join(command)}")
            yield url
        finally:
            timer.cancel()
            process.terminate()
