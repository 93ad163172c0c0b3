"""Move a family's channels: each move is one commit of a new signed pointer and its history entry.

`registry.channel_moves` decides where a channel points, `registry.version_rules` whether a release
may stand there; here is the reading and signing around them. What was read and the commit are one
step: a move that came in between makes this one ConflictError. Why: docs/adr/0012.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from compat.errors import UntrustedError, UsageError
from compat.files import digest_of
from compat.history import MAX_ENTRY_BYTES, MAX_REASON, HistoryEntry, Verb, entry_target
from compat.manifest import (
    MAX_MANIFEST_BYTES,
    Channel,
    HaltRule,
    ReleaseManifest,
    Requirements,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.report import MAX_REPORT_BYTES, Report
from compat.space import Name
from edge.client import MAX_CHANNEL_BYTES
from edge.device import STABLE
from registry.channel_moves import demoted, newest, paused, promoted
from registry.repository import Repository
from registry.version_rules import check_follows, check_parity, is_patch, numbers


@dataclass(frozen=True)
class Pointer:
    """What one move signs."""

    moving: dict[str, bytes]  # the channel
    entry: dict[str, bytes]  # of the history


def read_channel(repository: Repository, family: str, name: str) -> Channel | None:
    blob = repository.read(family, channel_target(family, name), max_bytes=MAX_CHANNEL_BYTES)
    return None if blob is None else Channel.from_bytes(blob)


def promote(
    repository: Repository,
    family: str,
    version: str,
    *,
    channel: str = STABLE,
    percent: float = 100,
    requires: Requirements | None = None,
    halt: HaltRule | None = None,
    reason: str = "",
) -> Channel:
    """Offer a published release to ``percent`` of the channel's devices; safe to repeat.

    A channel that does not exist begins where `STABLE` is, or with an older release.

    Raises:
        RefusedError: see `check_follows`, `check_parity` and `promoted`.
        UsageError: there is no such release, or see `promoted`.
        ConflictError: another publisher was first. Remedy: look, then repeat.
        OfflineError, UntrustedError: see `Repository`.
    """
    seen = repository.version
    manifest = _released(repository, family, version)
    before = read_channel(repository, family, channel)
    after = offered(
        repository,
        manifest,
        lambda: _report(repository, manifest),
        channel=channel,
        percent=percent,
        requires=requires,
        halt=halt,
    )
    return _commit(repository, before, after, "promote", version, reason, seen)


def pause(repository: Repository, family: str, channel: str, *, reason: str = "") -> Channel:
    """No further device takes the newest rollout. Raises as `promote`, and as `paused`."""
    seen, before = repository.version, _channel(repository, family, channel)
    after = paused(before, is_paused=True)
    return _commit(repository, before, after, "pause", newest(before), reason, seen)


def resume(repository: Repository, family: str, channel: str, *, reason: str = "") -> Channel:
    """Undo a pause. Raises as `promote`, and as `paused`."""
    seen, before = repository.version, _channel(repository, family, channel)
    after = paused(before, is_paused=False)
    return _commit(repository, before, after, "resume", newest(before), reason, seen)


def demote(
    repository: Repository,
    family: str,
    channel: str,
    *,
    version: str | None = None,
    reason: str = "",
    verb: Verb = "demote",
    expected: str | None = None,
) -> Channel:
    """Take the newest rollout back, or the whole channel to ``version``.

    Devices that run the newer release go down because this newer pointer says so; an older pointer
    is refused as ever. Raises as `promote`, and as `demoted`.

    Args:
        expected: the `Repository.version` on which the caller decided; None = the present one.
    """
    seen, before = expected or repository.version, _channel(repository, family, channel)
    after = demoted(before, version)
    if version is not None:
        _released(repository, family, version)
    about = newest(after) if verb == "demote" else newest(before)
    return _commit(repository, before, after, verb, about, reason, seen)


def offered(
    repository: Repository,
    manifest: ReleaseManifest,
    report: Callable[[], Report],
    *,
    channel: str,
    percent: float = 100,
    requires: Requirements | None = None,
    halt: HaltRule | None = None,
) -> Channel:
    """The channel once ``manifest``, which need not be published yet, is offered on it.

    Args:
        report: reads the release's own; asked for when the version claims to be a patch.

    Raises as `promote`; nothing was written.
    """
    try:
        TypeAdapter(Name).validate_python(channel)
    except ValidationError as error:
        raise UsageError(f"a channel cannot be named {channel!r}: choose another name") from error
    family, version = manifest.family, manifest.version
    before = read_channel(repository, family, channel)
    if before is None:
        stable = read_channel(repository, family, STABLE)
        if stable is None or numbers(version) <= numbers(stable.version):
            if percent < 100 or requires:
                raise UsageError(
                    f"{channel} of {family} has no release below {version}, for those that are "
                    "not in: a new channel begins with all of its devices"
                )
            return Channel(family=family, channel=channel, version=version)
        before = Channel(family=family, channel=channel, version=stable.version)
    if (top := newest(before)) != version:
        previous = _released(repository, family, top)
        check_follows(previous, manifest)
        if is_patch(previous, manifest):
            check_parity(_report(repository, previous), report(), version)
    return promoted(before, version, percent=percent, requires=requires, halt=halt)


def pointer_of(
    repository: Repository, channel: Channel, verb: Verb, version: str, reason: str = ""
) -> Pointer:
    """What has to be signed so that ``channel`` is where it points, and that the history says so.

    Raises:
        UntrustedError: the history so far is no chain: restore the registry from your backup.
    """
    blob, rollouts = channel.to_bytes(), channel.rollouts
    number, previous = _head(repository, channel.family)
    entry = HistoryEntry(
        family=channel.family,
        number=number + 1,
        previous=previous,
        at=repository.now().replace(microsecond=0),
        verb=verb,
        channel=channel.channel,
        version=version,
        percent=rollouts[0].percent if rollouts else None,
        reason=" ".join(reason.split())[:MAX_REASON],
        pointer=digest_of(blob),
    )
    return Pointer(
        {channel_target(channel.family, channel.channel): blob},
        {entry_target(channel.family, entry.number): entry.to_bytes()},
    )


def _commit(
    repository: Repository,
    before: Channel | None,
    after: Channel,
    verb: Verb,
    version: str,
    reason: str,
    seen: str,
) -> Channel:
    if after != before:
        pointer = pointer_of(repository, after, verb, version, reason)
        repository.sign_targets(after.family, pointer.entry, moving=pointer.moving, expected=seen)
    return after


def _head(repository: Repository, family: str) -> tuple[int, str | None]:
    """The number of history entries, and the digest of the last one."""
    listed = repository.state.listed(family)
    prefix = f"{family}/log/"
    count = sum(name.startswith(prefix) for name in listed)
    if count == 0:
        return 0, None
    blob = repository.read(family, entry_target(family, count), max_bytes=MAX_ENTRY_BYTES)
    entry = None if blob is None else HistoryEntry.from_bytes(blob)
    before = listed.get(entry_target(family, count - 1)) if count > 1 else None
    previous = before.hashes["sha256"] if before else None
    if blob is None or entry is None or (entry.number, entry.previous) != (count, previous):
        raise UntrustedError(f"the history of {family} is no chain: restore it from your backup")
    return count, digest_of(blob)


def _channel(repository: Repository, family: str, name: str) -> Channel:
    found = read_channel(repository, family, name)
    if found is None:
        raise UsageError(f"{family} has no channel {name}: kinspace promote makes one")
    return found


def _released(repository: Repository, family: str, version: str) -> ReleaseManifest:
    name = manifest_target(family, version)
    blob = repository.read(family, name, max_bytes=MAX_MANIFEST_BYTES)
    if blob is None:
        raise UsageError(f"{family} has no release {version}: kinspace publish makes one")
    return ReleaseManifest.from_bytes(blob)


def _report(repository: Repository, manifest: ReleaseManifest) -> Report:
    name = blob_target(manifest.family, manifest.report.digest)
    blob = repository.read(manifest.family, name, max_bytes=MAX_REPORT_BYTES)
    if blob is None:
        raise UntrustedError(f"nobody signed for the report of release {manifest.version}")
    return Report.from_bytes(blob)
