"""The updater as a command that TUF's public conformance suite can drive.

    kinspace-tuf-client --metadata-dir DIR init TRUSTED_ROOT
    kinspace-tuf-client --metadata-dir DIR --metadata-url URL refresh
    kinspace-tuf-client --metadata-dir DIR --metadata-url URL --target-name NAME
        --target-dir DIR --target-base-url URL download

It is the device's own path, `edge.trusted.TrustedFiles`, and nothing else. Exit 0 when all of it
worked, else 1; with several ``--target-name`` it stops at the first that fails.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from compat.errors import KinspaceError, UsageError
from compat.files import read_bounded, write_atomic
from edge.trusted import MAX_ROOT_BYTES, TrustedFiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="kinspace-tuf-client", description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    given = parser.parse_args(arguments)
    try:
        if given.command == "init":
            root = read_bounded(given.trusted_root, MAX_ROOT_BYTES)
            given.metadata_dir.mkdir(parents=True, exist_ok=True)
            write_atomic(given.metadata_dir / "root.json", root)
        else:
            files = _refreshed(given)
            if given.command == "download":
                _download(files, given)
    except (KinspaceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _refreshed(given: argparse.Namespace) -> TrustedFiles:
    if not given.metadata_url:
        raise UsageError(f"{given.command} needs --metadata-url")
    root = read_bounded(given.metadata_dir / "root.json", MAX_ROOT_BYTES)
    targets_url = given.target_base_url or given.metadata_url
    files = TrustedFiles(given.metadata_url, targets_url, given.metadata_dir, root)
    files.refresh()
    return files


def _download(files: TrustedFiles, given: argparse.Namespace) -> None:
    if not (given.target_name and given.target_dir and given.target_base_url):
        raise UsageError("download needs --target-name, --target-dir and --target-base-url")
    for name in given.target_name:
        files.download(name, given.target_dir)


if __name__ == "__main__":
    sys.exit(main())
