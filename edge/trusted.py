"""Signed files: what a TUF repository says, believed only when it is signed (docs/adr/0003).

Order: `TrustedFiles.refresh`, then the questions; a question before the first refresh is
RuntimeError: the caller's mistake. No answer is OfflineError, an answer that must not be believed
UntrustedError. One path for everybody: the device, the publisher's own reading, and the command
that conformance suites drive (`edge.conformance`).
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater
from urllib3.exceptions import HTTPError

from compat.errors import OfflineError, UntrustedError, UsageError, WithheldError
from compat.files import read_bounded, sync_folder
from edge.fetch import fetcher_of
from edge.parts import PartsFetcher

MAX_ROOT_BYTES = 512_000  # as tuf.ngclient bounds the roots that it fetches


class TrustedFiles:
    """One client's view of one TUF repository.

    Args:
        metadata_url, targets_url: http(s) URLs or local folders.
        metadata_dir: where verified metadata is kept; it is what makes a rollback noticed. One
            client at a time may use it.
        root: the trusted root metadata. It came by a channel of trust, not from the repository.
        fetcher: None = what fits the URL.

    Raises:
        UsageError: a URL is neither, ``root`` is no root, or ``metadata_dir`` cannot be written.
    """

    def __init__(
        self,
        metadata_url: str,
        targets_url: str,
        metadata_dir: Path,
        root: bytes,
        *,
        fetcher: FetcherInterface | None = None,
    ) -> None:
        self.source = metadata_url
        self._targets_url = targets_url
        self._metadata_dir = metadata_dir
        self._root = root
        self._fetcher = PartsFetcher(fetcher or fetcher_of(metadata_url), metadata_dir / "parts")
        self._updater: Updater | None = None
        try:
            self._connected()
        except RepositoryError as error:
            raise UsageError(
                f"the trusted root is no signed root metadata ({error}): give the device the "
                "root.json that the registry's publisher handed out"
            ) from error

    def refresh(self, *, not_before: datetime | None = None) -> None:
        """Fetch and verify what the repository says now.

        Args:
            not_before: a moment that is past for sure, whatever this clock says.

        Raises:
            OfflineError: nobody answered. Keep what runs, try later.
            UntrustedError: the answer is forged, expired or older than one seen before. Keep what
                runs, alert.
        """
        updater = self._connected()
        with self._border():
            updater.refresh()
            self._remember()
            timestamp = Metadata[Timestamp].from_file(str(self._metadata_dir / "timestamp.json"))
        if not_before and timestamp.signed.expires <= not_before:
            raise UntrustedError(
                f"{self.source} was out of date already at {not_before:%Y-%m-%d %H:%M} UTC, when "
                "this device last updated: its clock was set back, and somebody may hold updates "
                "back behind it"
            )
        self._updater = updater

    def read(self, name: str, max_bytes: int, *, part: str | None = None) -> bytes | None:
        """Verified bytes of a target; None when nobody signs for it. Raises as `refresh`.

        Args:
            part: keep what comes under this digest, cut off or whole, until `forget_parts`; a
                repeat goes on from there.
        """
        target = self._target(name)
        if target is None:
            return None
        if target.length > max_bytes:
            raise UntrustedError(f"{name} has {target.length} bytes, expected {max_bytes}")
        copy = self._metadata_dir / "target.part"
        with self._border():
            try:
                if part:
                    self._resumed(target, copy, part)
                else:
                    self._fetched(target, copy)
                return read_bounded(copy, max_bytes)
            finally:
                copy.unlink(missing_ok=True)

    def forget_parts(self, *, keep: Collection[str] = ()) -> None:
        """Remove what cut-off downloads left, except what ``keep`` names."""
        with self._writing():
            self._fetcher.forget(keep=keep)

    def download(self, name: str, folder: Path) -> Path:
        """Keep a target in ``folder`` under its quoted name; not fetched when it is there already.

        Whole or not at all, and never through a link that lies in its place.

        Raises:
            UntrustedError: nobody signs for it, or see `refresh`. OfflineError: see `refresh`.
            UsageError: it cannot be written, or its name is no name of a file.
        """
        target = self._target(name)
        if target is None:
            raise UntrustedError(f"nobody signed for {name!r}")
        file = quote(name, safe="")
        if file in (".", ".."):
            raise UsageError(f"{name!r} is no name of a file")
        path, part = folder / file, folder / f".{os.getpid()}.part"
        with self._border():
            if not path.is_symlink() and self._at_work.find_cached_target(target, str(path)):
                return path
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._fetched(target, part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    @property
    def _at_work(self) -> Updater:
        if self._updater is None:
            raise RuntimeError("refresh before asking")
        return self._updater

    def _target(self, name: str) -> TargetFile | None:
        updater = self._at_work
        with self._border():
            return updater.get_targetinfo(name)

    def _resumed(self, target: TargetFile, copy: Path, part: str) -> None:
        """As `_fetched`, from the kept part on: what is of other bytes is thrown away.

        Bytes that an earlier download left may be what is wrong: then once more, from the start.
        """
        began = self._fetcher.began(part)
        try:
            with self._fetcher.keeping(part):
                self._fetched(target, copy)
        except (RepositoryError, DownloadLengthMismatchError):
            self._fetcher.drop(part)
            if not began:
                raise
            self._resumed(target, copy, part)

    def _fetched(self, target: TargetFile, part: Path) -> None:
        """Verified and on the disk: a new file, never one that somebody put there."""
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        self._at_work.download_target(target, str(part))
        with part.open("rb+") as file:
            os.fsync(file.fileno())

    def _remember(self) -> None:
        """Versions seen survive a power cut: python-tuf renames, and does not wait for the disk."""
        folders = (self._metadata_dir, self._metadata_dir / "root_history")
        for path in (each for folder in folders for each in folder.glob("*.json")):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for folder in folders:
            if folder.exists():
                sync_folder(folder)

    def _connected(self) -> Updater:
        """A fresh updater: it can be refreshed once in its life."""
        with self._writing():
            self._metadata_dir.mkdir(parents=True, exist_ok=True)
            return Updater(
                metadata_dir=str(self._metadata_dir),
                metadata_base_url=self.source,
                target_base_url=self._targets_url,
                fetcher=self._fetcher,
                bootstrap=self._root,
            )

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Foreign exceptions end here."""
        try:
            with self._writing():
                yield
        except DownloadLengthMismatchError as error:  # a DownloadError, but somebody did answer
            raise UntrustedError(f"{self.source} sent more than was signed: {error}") from error
        except DownloadHTTPError as error:
            raise WithheldError(f"{self.source} has no answer ({error}): try later") from error
        except (DownloadError, HTTPError) as error:
            cause = error.__cause__ or error
            raise OfflineError(f"no answer from {self.source} ({cause}): try later") from error
        except ExpiredMetadataError as error:
            raise UntrustedError(
                f"{self.source} is out of date ({error}): somebody holds updates back, its "
                "publisher must run kinspace keys refresh, or this clock is wrong"
            ) from error
        except RepositoryError as error:
            raise UntrustedError(
                f"{self.source} must not be believed ({type(error).__name__}: {error})"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._metadata_dir
            raise UsageError(f"cannot write {where}: {error.strerror or error}") from error
