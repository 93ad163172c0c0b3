"""Does the attack suite bite? Break the client in one place at a time; each time a test must fail.

    python -m benchmarks.mutants

The client is ours (``edge``, ``compat``) and python-tuf, which decides for it: both are copied to a
temporary folder, changed there, and attacked by the tests that claim to guard the place. First the
unchanged copy must pass. Exit 0 only when every mutant is killed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tuf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compat.terminal import STDERR

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmarks", "compat", "edge", "registry", "server_models", "tests")
TRUSTED_SET = "tuf/ngclient/_internal/trusted_metadata_set.py"
PAYLOAD = "tuf/api/_payload.py"
TIME_S = 300.0  # a mutant that hangs is noticed as well


@dataclass(frozen=True)
class Edit:
    """``old`` stands in ``file`` and becomes ``new``."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One way to break the client, and the tests that guard against it."""

    name: str
    edits: tuple[Edit, ...]
    tests: str  # a module under tests/attack
    choose: str  # pytest -k


def _never(condition: str) -> str:
    """The same condition, in a form that is never true."""
    return condition.replace("if ", "if False and ", 1)


def _skipped(name: str, file: str, condition: str, tests: str, choose: str) -> Mutant:
    return Mutant(name, (Edit(file, condition, _never(condition)),), tests, choose)


MUTANTS = (
    _skipped(
        "accept a wrong signature",
        PAYLOAD,
        "        if not result:\n            raise UnsignedMetadataError(",
        "test_forged_metadata.py",
        "unsigned_metadata or strangers_key",
    ),
    Mutant(
        "skip the hash of a target",
        (
            Edit(PAYLOAD, "if observed_hash != exp_hash:", "if False:"),
            Edit("edge/client.py", "or digest_of(found) != blob.digest", ""),
        ),
        "test_spoilt_files.py",
        "same_length",
    ),
    Mutant(
        "skip the length of a download and of what came",
        (
            Edit(
                "tuf/ngclient/fetcher.py", "if number_of_bytes_received > max_length:", "if False:"
            ),
            Edit(PAYLOAD, "if observed_length != expected_length:", "if False:"),
            Edit(PAYLOAD, "if observed_hash != exp_hash:", "if False:"),
            Edit("edge/parts.py", "            if kept > max_length:", "            if False:"),
            Edit(
                "edge/client.py",
                "if len(found) != blob.size_bytes or digest_of(found) != blob.digest:",
                "if False:",
            ),
        ),
        "test_spoilt_files.py",
        "longer_or_shorter",
    ),
    _skipped(
        "skip the expiry of timestamp",
        TRUSTED_SET,
        "if self.timestamp.is_expired(self.reference_time):",
        "test_stale_metadata.py",
        "frozen",
    ),
    _skipped(
        "skip the expiry of a family",
        TRUSTED_SET,
        "if new_delegate.is_expired(self.reference_time):",
        "test_stale_metadata.py",
        "nobody_signs_for",
    ),
    _skipped(
        "accept a lower version of timestamp",
        TRUSTED_SET,
        "if new_timestamp.version < self.timestamp.version:",
        "test_conformance.py",
        "timestamp_alone",
    ),
    _skipped(
        "accept a lower version of snapshot",
        TRUSTED_SET,
        "if new_snapshot_meta.version < snapshot_meta.version:",
        "test_conformance.py",
        "snapshot_alone",
    ),
    _skipped(
        "accept a lower version of a role",
        TRUSTED_SET,
        "if new_fileinfo.version < fileinfo.version:",
        "test_stale_metadata.py",
        "role_is_rolled_back",
    ),
    Mutant(
        "follow a root that the one before did not sign",
        (
            Edit(
                TRUSTED_SET, "            Root, data, self.root\n", "            Root, data, None\n"
            ),
        ),
        "test_conformance.py",
        "whole_registry",
    ),
    Mutant(
        "skip admission",
        (Edit("edge/device.py", "        admit(check, artifact.admission_cosine)\n", ""),),
        "test_admission.py",
        "computes_something_else",
    ),
    _skipped(
        "go on however slow",
        "edge/fetch.py",
        "if elapsed > self._grace_s and received < MIN_BYTES_PER_S * elapsed:",
        "../edge/test_fetch.py",
        "one_byte_a_second",
    ),
    Mutant(
        "write a target through a link",
        (
            Edit(
                "edge/trusted.py",
                "                part.replace(path)\n",
                "                path.write_bytes(part.read_bytes())\n",
            ),
        ),
        "test_conformance.py",
        "symlink",
    ),
    Mutant(
        "write in place instead of by a rename",
        (
            Edit("compat/files.py", 'open(part, "wb"', 'open(path, "wb"'),
            Edit("compat/files.py", "            part.replace(path)\n", ""),
        ),
        "test_write_faults.py",
        "write_atomic",
    ),
    Mutant(
        "rename before the bytes are on the disk",
        (Edit("compat/files.py", "                os.fsync(file.fileno())\n", ""),),
        "test_write_faults.py",
        "write_atomic",
    ),
    Mutant(
        "believe a manifest of another version",
        (
            Edit(
                "edge/client.py",
                "if (manifest.family, manifest.version) != (family, version):",
                "if False:",
            ),
        ),
        "test_forged_metadata.py",
        "signed_release_of_another",
    ),
    Mutant(
        "skip the digest of what a delta gives",
        (
            Edit(
                "compat/delta.py",
                "if len(made) != result.size_bytes or digest_of(made) != result.digest:",
                "if len(made) != result.size_bytes:",
            ),
        ),
        "test_deltas.py",
        "gives_another_file",
    ),
    _skipped(
        "skip the bound of what a delta unpacks to",
        "compat/delta.py",
        "        if len(content) > bound:",
        "../compat/test_delta.py",
        "bomb",
    ),
    _skipped(
        "skip the lengths in the head of an HDiffPatch",
        "compat/delta.py",
        "    if (made_bytes, base_bytes) != (size_bytes, len(base)):",
        "../compat/test_delta.py",
        "room_without_end",
    ),
    Mutant(
        "keep a part that turned out to be of other bytes",
        (Edit("edge/trusted.py", "            self._fetcher.drop(part)\n", ""),),
        "test_resume.py",
        "rest_of_a_download_is_forged",
    ),
    Mutant(
        "go on with a download whose file has changed",
        (
            Edit(
                "edge/fetch.py",
                'headers["If-Range"] = etag',
                "pass",
            ),
        ),
        "test_resume.py",
        "content_changes",
    ),
    _skipped(
        "believe a clock that was set back",
        "edge/trusted.py",
        "if not_before and timestamp.signed.expires <= not_before:",
        "test_whole_updates.py",
        "frozen_mirror",
    ),
    Mutant(
        "believe a pointer of another channel",
        (
            Edit(
                "edge/client.py",
                "if (channel.family, channel.channel) != (family, name):",
                "if False:",
            ),
        ),
        "test_forged_metadata.py",
        "pointer_of_another",
    ),
    _skipped(
        "take a release whose requirements are not met",
        "edge/rollout.py",
        "if unmet(rollout.requires, facts):",
        "test_rollouts.py",
        "too_old",
    ),
    _skipped(
        "take a paused release",
        "edge/rollout.py",
        "if rollout.paused and running != rollout.version:",
        "test_rollouts.py",
        "before_a_pause",
    ),
    Mutant(
        "take a release whatever its percent",
        (Edit("edge/rollout.py", "return where < rollout.percent", "return True"),),
        "test_rollouts.py",
        "percent_is_changed",
    ),
)


def copied(folder: Path) -> None:
    """The client, python-tuf and the tests, to be broken."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(Path(tuf.__file__).parent, folder / "tuf")


def apply(edits: Iterable[Edit], folder: Path) -> None:
    """Change the copy; an edit that finds nothing, or two places, is a mistake of this table."""
    for edit in edits:
        path = folder / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(
                f"{edit.file} holds {edit.old!r} {text.count(edit.old)} times, not once"
            )
        path.write_text(text.replace(edit.old, edit.new))


def passes(folder: Path, tests: str, choose: str) -> bool:
    """Whether the chosen attacks find nothing wrong with the client in ``folder``."""
    command = [sys.executable, "-m", "pytest", f"tests/attack/{tests}", "-k", choose]
    command += ["-x", "-q", "-p", "no:cacheprovider"]
    path = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=path, capture_output=True, text=True, timeout=TIME_S
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):  # 1 = a test failed; all else is no answer
        raise RuntimeError(f"pytest could not run {tests} -k {choose!r}:\n{done.stdout[-2000:]}")
    return done.returncode == 0


def is_killed(mutant: Mutant) -> bool:
    """Whether its tests pass on the client as it is, and fail on the mutant."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder)
        if not passes(folder, mutant.tests, mutant.choose):
            raise RuntimeError(f"{mutant.tests} fails on the client as it is: mend that first")
        apply(mutant.edits, folder)
        return not passes(folder, mutant.tests, mutant.choose)


def main() -> int:
    killed = {
        mutant: is_killed(mutant)
        for mutant in track(MUTANTS, "breaking the client", console=STDERR)
    }
    table = Table("mutant", "attacked by", "killed", title="mutants of the client")
    for mutant, dead in killed.items():
        table.add_row(mutant.name, f"{mutant.tests}: {mutant.choose}", "yes" if dead else "NO")
    Console().print(table)
    Console().print(f"killed {sum(killed.values())} of {len(killed)}")
    return 0 if all(killed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
