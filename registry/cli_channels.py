"""``kinspace promote | pause | resume | demote | log | rollout``: move channels, and look back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from compat.errors import RefusedError, UsageError
from compat.manifest import Channel, HaltRule, Requirements
from registry.cli_errors import exits

if TYPE_CHECKING:
    from registry.repository import Repository

rollout_app = typer.Typer(help="Watch what is being rolled out.", no_args_is_help=True)

Family = Annotated[str, typer.Argument(help="a family of the registry")]
RegistryAt = Annotated[str, typer.Option("--registry", help="folder or s3://bucket/prefix")]
Keys = Annotated[Path, typer.Option(help="folder of private keys, apart from the registry")]
ChannelName = Annotated[str, typer.Option("--channel", help="stable, canary or a name of yours")]
Reason = Annotated[str, typer.Option(help="why, for the history")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


@exits
def promote(
    family: Family,
    version: Annotated[str, typer.Argument(help="a published release")],
    registry: RegistryAt,
    keys: Keys,
    channel: ChannelName = "stable",
    percent: Annotated[float, typer.Option(min=0, max=100, help="share of the devices")] = 100,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="only devices with it: onnxruntime, litert; may be repeated"),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="only devices on it, e.g. Linux, Android; may be repeated"),
    ] = None,
    min_memory_mb: Annotated[int, typer.Option(min=0, help="only devices with as much")] = 0,
    min_client: Annotated[str, typer.Option(help="only from this kinspace on")] = "0.0.0",
    halt_above: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="share of failures that halts [0.05]")
    ] = None,
    halt_min: Annotated[
        int | None, typer.Option(min=1, help="reports before it may be halted [20]")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Offer a release to a share of a channel's devices, or to a larger share.

    Exit 5 when its version does not say what it is, or another rollout is under way.
    """
    from registry.channels import promote as run

    found = run(
        _open(registry, keys),
        family,
        version,
        channel=channel,
        percent=percent,
        requires=_requirements(runtime, system, min_memory_mb, min_client),
        halt=_halt_rule(halt_above, halt_min),
        reason=reason,
    )
    _say(found, as_json)


@exits
def pause(
    family: Family,
    registry: RegistryAt,
    keys: Keys,
    channel: ChannelName = "stable",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let no further device take what is being rolled out; those that run it keep it."""
    from registry.channels import pause as run

    _say(run(_open(registry, keys), family, channel, reason=reason), as_json)


@exits
def resume(
    family: Family,
    registry: RegistryAt,
    keys: Keys,
    channel: ChannelName = "stable",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Go on with a paused rollout."""
    from registry.channels import resume as run

    _say(run(_open(registry, keys), family, channel, reason=reason), as_json)


@exits
def demote(
    family: Family,
    registry: RegistryAt,
    keys: Keys,
    version: Annotated[
        str | None, typer.Option("--to", help="back to this release; default: end the rollout")
    ] = None,
    channel: ChannelName = "stable",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take a rollout back, or a whole channel to an older release, by a newer signed pointer."""
    from registry.channels import demote as run

    found = run(_open(registry, keys), family, channel, version=version, reason=reason)
    _say(found, as_json)


@exits
def log(
    family: Family,
    registry: Annotated[str, typer.Option(help="http(s) URL or folder of the registry")],
    root: Annotated[Path, typer.Option(help="root.json, from the publisher, not the registry")],
    cache: Annotated[
        Path, typer.Option(help="remembers what was seen: a rewritten history is noticed")
    ] = Path("~/.cache/kinspace/log"),
    as_json: AsJson = False,
) -> None:
    """Show every move of a family's channels, verified; exit 4 when the past was rewritten."""
    from compat.files import read_bounded
    from edge.trusted import MAX_ROOT_BYTES
    from registry.history import read_history

    trusted = read_bounded(root, MAX_ROOT_BYTES)
    entries = read_history(registry, trusted, family, cache.expanduser())
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    for entry in entries:
        share = "" if entry.percent is None else f" {entry.percent:g}%"
        typer.echo(
            f"{entry.number:>4}  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.channel:<8} "
            f"{entry.verb:<8} {entry.version}{share}{f': {entry.reason}' if entry.reason else ''}"
        )


@rollout_app.command("check")
@exits
def check(
    family: Family,
    registry: RegistryAt,
    keys: Keys,
    reports: Annotated[Path, typer.Option(help="folder of signed reports, or one of them")],
    channel: ChannelName = "stable",
    trusted: Annotated[
        list[Path] | None,
        typer.Option(help="public key (PEM) that may report; may be repeated; default any"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the newest rollout by what devices report; when too many fail, take it back (exit 5).

    Run it whenever reports have come in: it is signed and logged like any other move.
    """
    from edge.attest_key import read_public_key
    from registry.rollout_check import check_rollout

    allowed = {read_public_key(path).keyid for path in trusted} if trusted else None
    found = check_rollout(_open(registry, keys), family, channel, reports, trusted=allowed)
    typer.echo(json.dumps(found.as_json()) if as_json else found.in_words())
    if found.halted:
        raise RefusedError(f"the rollout of {found.version} on {channel} was taken back")


def _requirements(
    runtimes: list[str] | None, systems: list[str] | None, memory_mb: int, client: str
) -> Requirements | None:
    """None when nothing is asked for: a rollout that is promoted further keeps its own."""
    try:
        asked = Requirements.model_validate(
            {
                "runtimes": runtimes or (),
                "systems": systems or (),
                "min_memory_bytes": memory_mb * 2**20,
                "min_client": client,
            }
        )
    except ValidationError as error:
        raise UsageError(
            f"--runtime is onnxruntime or litert, --min-client a version like 1.2.3; got "
            f"{runtimes or []} and {client!r}"
        ) from error
    return None if asked == Requirements() else asked


def _halt_rule(above: float | None, least: int | None) -> HaltRule | None:
    if above is None and least is None:
        return None
    given = {"failure_share": above, "min_devices": least}
    return HaltRule.model_validate({name: each for name, each in given.items() if each is not None})


def _open(registry: str, keys: Path) -> "Repository":
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.storage.address import open_store

    return Repository(open_store(registry), KeyFolder(keys))


def _say(channel: Channel, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(channel.model_dump(mode="json")))
        return
    typer.echo(f"{channel.channel} of {channel.family}: {channel.version}")
    for each in channel.rollouts:
        words = [f"release {each.version} for {each.percent:g}% of the devices"]
        words += ["paused"] if each.paused else []
        named = each.requires.model_dump(mode="json", exclude_defaults=True)
        words += [f"{name} {value}" for name, value in named.items()]
        typer.echo(f"  {', '.join(words)}")
