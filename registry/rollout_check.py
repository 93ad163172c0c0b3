"""Judge a rollout by what devices report, and take it back when too many fail.

A report counts when its signature verifies, its key is trusted (when keys are listed) and it speaks
of this channel and release; a device counts once, by its newest report. Whoever can make keys can
make devices: list the keys, or let the app check who reports, before the check decides alone.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from compat.attestation import MAX_ATTESTATION_BYTES
from compat.errors import UntrustedError, UsageError
from compat.files import read_bounded
from compat.halting import Failures, judge
from compat.manifest import Channel
from compat.update_report import Met
from edge.envelope import Reported, open_report
from registry.channel_moves import newest
from registry.channels import demote, read_channel
from registry.repository import Repository

MAX_REPORTS = 1_000_000


@dataclass(frozen=True)
class RolloutCheck:
    """What was found, and whether the rollout was taken back."""

    channel: Channel  # as it is now
    version: str  # that was judged
    failures: Failures
    reasons: tuple[str, ...]  # of devices on which it fails, each once, a few
    refused: int  # files that do not count
    halted: bool

    def as_json(self) -> dict[str, object]:
        found = self.failures
        return {
            "channel": self.channel.model_dump(mode="json"),
            "version": self.version,
            "devices": found.devices,
            "failed": found.failed,
            "failure_share_low": round(found.low, 4),
            "failure_share_high": round(found.high, 4),
            "reasons": list(self.reasons),
            "refused": self.refused,
            "halted": self.halted,
        }

    def in_words(self) -> str:
        found = self.failures
        left_out = f", {self.refused} files do not count" if self.refused else ""
        lines = [
            f"release {self.version} on {self.channel.channel}: fails on {found.failed} of "
            f"{found.devices} devices that report (99% interval {found.low:.1%} to "
            f"{found.high:.1%}){left_out}"
        ]
        lines += [f"  {reason}" for reason in self.reasons]
        if self.halted:
            lines.append(f"taken back: {self.channel.channel} is at {newest(self.channel)}")
        return "\n".join(lines)


def check_rollout(
    repository: Repository,
    family: str,
    channel: str,
    reports: Path,
    *,
    trusted: Collection[str] | None = None,
) -> RolloutCheck:
    """Judge the newest rollout of ``channel``; take it back when its rule says so.

    Args:
        reports: a folder of signed reports, or one.
        trusted: ids of keys that may report; None = any.

    Raises:
        UsageError: nothing is being rolled out, or ``reports`` cannot be read.
        ConflictError: another publisher was first. Remedy: repeat.
        OfflineError, UntrustedError: see `Repository`.
    """
    seen = repository.version
    before = read_channel(repository, family, channel)
    if before is None or not before.rollouts:
        raise UsageError(f"nothing is being rolled out on {channel} of {family}")
    head = before.rollouts[0]
    mets, refused = _counted(reports, before, head.version, trusted)
    failed = [met for met in mets if not met.works]
    failures = judge(head.halt, len(failed), len(mets))
    reasons = tuple(dict.fromkeys(met.reason for met in failed))[:3]
    after = before
    if failures.is_too_many:
        words = f"fails on {failures.failed} of {failures.devices} devices that report"
        after = demote(repository, family, channel, reason=words, verb="halt", expected=seen)
    return RolloutCheck(after, head.version, failures, reasons, refused, failures.is_too_many)


def _counted(
    reports: Path, channel: Channel, version: str, trusted: Collection[str] | None
) -> tuple[list[Met], int]:
    """What each device met of ``version``, by its newest report; and the files that do not count.

    A report on another family, channel or release says nothing of this one, and is not refused.
    """
    newest_of: dict[str, tuple[datetime, Met]] = {}
    refused = 0
    for path in _files(reports):
        try:
            found = open_report(read_bounded(path, MAX_ATTESTATION_BYTES), path.name)
        except (UntrustedError, UsageError):
            refused += 1
            continue
        if trusted is not None and found.key_id not in trusted:
            refused += 1
            continue
        met, at, seen = _met(found, channel, version), found.report.at, newest_of.get(found.key_id)
        if met and (seen is None or seen[0] < at):
            newest_of[found.key_id] = at, met
    return [met for _, met in newest_of.values()], refused


def _met(found: Reported, channel: Channel, version: str) -> Met | None:
    report = found.report
    if (report.family, report.channel) != (channel.family, channel.channel):
        return None
    return next((met for met in report.met if met.version == version), None)


def _files(reports: Path) -> Iterator[Path]:
    if reports.is_file():
        yield reports
        return
    try:
        files = sorted(each for each in reports.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise UsageError(f"cannot read {reports}: {error.strerror or error}") from error
    if len(files) > MAX_REPORTS:
        raise UsageError(
            f"{reports} holds {len(files)} files, more than {MAX_REPORTS}: give one release's"
        )
    yield from (each for each in files if each.is_file())
