"""Starter weights: networks distilled once from packaged ImageNet networks, shipped by name.

`benchmarks/starters.py` made them; the header of each file says from what. They hold trunk and
feature layer; the embedding layer of a family is its own.
"""

import importlib.resources

import safetensors.torch
import torch
from torch import nn

from compat.errors import ConfigError

FRESH = ("embed.", "widen.")  # layers that a starter may leave to the family


def load_starter(backbone: str, net: nn.Module) -> None:
    """Begin ``net`` with the starter weights of its backbone; its embedding layer stays fresh.

    Raises:
        ConfigError: none ships for this backbone. Remedy: ``start = "nothing"`` there.
    """
    folder = importlib.resources.files("server_models") / "starter_weights"
    file = folder / f"{backbone}.safetensors"
    if not file.is_file():
        raise ConfigError(f'no starter weights ship for {backbone}: set start = "nothing"')
    half = safetensors.torch.load(file.read_bytes())
    state = {name: value.to(torch.float32) if value.is_floating_point() else value
             for name, value in half.items()}  # fmt: skip
    missing, unexpected = net.load_state_dict(state, strict=False)
    if unexpected or any(not name.startswith(FRESH) for name in missing):
        raise ConfigError(f"starter weights of {backbone} do not fit: {missing} {unexpected}")
