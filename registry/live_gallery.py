"""The newest committed version of a gallery, for a service that runs while others write."""

import threading
import time
from pathlib import Path

from registry.gallery import Gallery

REFRESH_S = 0.5  # how old a view may be


class LiveGallery:
    """Gives a whole version each time: a search never sees half a commit.

    Raises as `registry.gallery.Gallery.open`, at the start.
    """

    def __init__(self, folder: Path, space_id: str) -> None:
        self._gallery = Gallery.open(folder, space_id)
        self._seen_at = time.monotonic()
        self._refreshing = threading.Lock()

    def now(self) -> Gallery:
        """A version that is at most `REFRESH_S` old, plus what opening the next one takes.

        While one thread opens it, the others answer from the version before. Raises CorruptError.
        """
        if time.monotonic() - self._seen_at > REFRESH_S and self._refreshing.acquire(
            blocking=False
        ):
            try:
                self._gallery = self._gallery.newer() or self._gallery
                self._seen_at = time.monotonic()
            finally:
                self._refreshing.release()
        return self._gallery
