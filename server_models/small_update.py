"""A small update: a member that moves little from its release, so that its delta is small.

What does not move costs its devices no bytes. Two things keep int8 weights where they were: batch
norms stand still, so that what is folded into a convolution is the same factor; and no channel
leaves its range, so that an exporter, which takes a channel's scale from its largest weight,
chooses the scales of the release again.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compat.files import digest_of, read_bounded
from server_models.checkpoint import MAX_CHECKPOINT_BYTES, load_weights
from server_models.member_config import MemberConfig, UpdateConfig

_WEIGHED = (nn.Conv2d, nn.Linear)


def inputs_of(member: MemberConfig) -> dict[str, object]:
    """All of the member's own section that decides its weights: those it begins with by digest."""
    section = member.model_dump(mode="json")
    if member.optimizer == "adamw" or member.update:  # an update is AdamW's, whatever stands there
        section.pop("optimizer")  # runs were digested so when there was no other
    if member.update:
        blob = read_bounded(member.update.weights, MAX_CHECKPOINT_BYTES)
        section["update"] = {"weights": digest_of(blob), "learns": member.update.learns}
    return section


def begin_update(net: nn.Module, update: UpdateConfig) -> None:
    """Fill ``net`` with the release's weights and leave open only what ``update`` lets learn.

    Raises:
        UsageError: there is no such file. CorruptError: it holds another network.
    """
    load_weights(update.weights, net)
    for name, module in net.named_modules():
        is_open = isinstance(module, _WEIGHED) and (
            update.learns == "weights" or name.split(".")[0] == "embed"
        )
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(is_open)


def still_statistics(net: nn.Module) -> None:
    """Training mode, except for batch norms: they keep what they came with."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def keep_ranges(net: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Bring each output channel back into its old range [-m, m], with m reached where it was.

    (C, ...) weights of convolutions and linear layers; m is a channel's largest magnitude.
    """
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, _WEIGHED):
                old = before[f"{name}.weight"].flatten(1)  # (C, K)
                new = module.weight.flatten(1)  # (C, K)
                top = old.abs().argmax(1, keepdim=True)  # (C, 1)
                limit = old.gather(1, top).abs()
                kept = new.clamp(-limit, limit).scatter(1, top, old.gather(1, top))
                module.weight.copy_(kept.view_as(module.weight))
