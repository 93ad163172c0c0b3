"""Where a channel points after an operator's move: decisions, no signing and no IO.

Every move gives a new `Channel`, or refuses; the old value is untouched. A rollout of which every
device may have the release is settled: it becomes the channel's version, and what was below it is
forgotten.
"""

from compat.errors import RefusedError, UsageError
from compat.manifest import Channel, HaltRule, Requirements, Rollout
from registry.version_rules import numbers

MAX_ROLLOUTS = 8  # as `Channel.rollouts` has it


def promoted(
    channel: Channel,
    version: str,
    *,
    percent: float,
    requires: Requirements | None = None,
    halt: HaltRule | None = None,
) -> Channel:
    """``version`` for at least ``percent`` of the devices.

    Args:
        requires, halt: None = as they are, or the defaults for a new rollout.

    Raises:
        RefusedError: the share would shrink, the rollout is paused, or another one is under way.
        UsageError: ``version`` is the settled one or below it.
    """
    if not 0 <= percent <= 100:
        raise UsageError(f"a share of devices is 0 to 100 percent, got {percent:g}")
    head = channel.rollouts[0] if channel.rollouts else None
    if version == channel.version and head is None and percent == 100 and requires is None:
        return channel
    if numbers(version) <= numbers(channel.version):
        raise UsageError(
            f"{channel.channel} of {channel.family} is at {channel.version}: to go to {version}, "
            "kinspace demote"
        )
    if head is None or head.version != version:
        if head and (head.paused or head.percent < 100):
            raise RefusedError(
                f"release {head.version} is still being rolled out on {channel.channel} (to "
                f"{head.percent:g}%): promote it to 100% or demote it first"
            )
        if head and numbers(version) < numbers(head.version):
            raise UsageError(
                f"{channel.channel} of {channel.family} rolls out {head.version}: to go back, "
                "kinspace demote"
            )
        fresh = Rollout(
            version=version,
            percent=percent,
            requires=requires or Requirements(),
            halt=halt or HaltRule(),
        )
        return _settled(channel, (fresh, *channel.rollouts))
    if head.paused:
        raise RefusedError(
            f"the rollout of {version} on {channel.channel} is paused: kinspace resume, or demote"
        )
    if percent < head.percent:
        raise RefusedError(
            f"release {version} is at {head.percent:g}% of {channel.channel}, a rollout does not "
            "shrink: pause or demote it"
        )
    changes: dict[str, object] = {"percent": percent}
    changes |= {"requires": requires} if requires is not None else {}
    changes |= {"halt": halt} if halt is not None else {}
    return _settled(channel, (head.model_copy(update=changes), *channel.rollouts[1:]))


def paused(channel: Channel, *, is_paused: bool) -> Channel:
    """No further device takes the newest rollout; those that run it keep it. Or again they do.

    Raises:
        UsageError: there is no rollout.
    """
    if not channel.rollouts:
        raise UsageError(f"nothing is being rolled out on {channel.channel} of {channel.family}")
    head = channel.rollouts[0].model_copy(update={"paused": is_paused})
    return channel.model_copy(update={"rollouts": (head, *channel.rollouts[1:])})


def demoted(channel: Channel, version: str | None = None) -> Channel:
    """Without the newest rollout; or back to ``version``, settled or in a rollout below.

    Raises:
        UsageError: the channel stands there already, below it, or has nowhere to go back to.
    """
    if version is None:
        if not channel.rollouts:
            raise UsageError(
                f"nothing is being rolled out on {channel.channel} of {channel.family}: say to "
                f"which version below {channel.version} it goes back"
            )
        return channel.model_copy(update={"rollouts": channel.rollouts[1:]})
    top = newest(channel)
    if numbers(version) >= numbers(top):
        raise UsageError(
            f"{channel.channel} of {channel.family} is at {top}: {version} is not below it"
        )
    below = tuple(each for each in channel.rollouts if numbers(each.version) <= numbers(version))
    if any(each.version == version for each in below):
        return channel.model_copy(update={"rollouts": below})
    return channel.model_copy(update={"version": version, "rollouts": ()})


def newest(channel: Channel) -> str:
    """The version that the channel moves towards."""
    return channel.rollouts[0].version if channel.rollouts else channel.version


def _settled(channel: Channel, rollouts: tuple[Rollout, ...]) -> Channel:
    if rollouts[0].is_for_all:
        return channel.model_copy(update={"version": rollouts[0].version, "rollouts": ()})
    if len(rollouts) > MAX_ROLLOUTS:
        raise UsageError(
            f"{channel.channel} of {channel.family} holds {MAX_ROLLOUTS} releases with "
            "requirements: drop a requirement or demote"
        )
    return channel.model_copy(update={"rollouts": rollouts})
