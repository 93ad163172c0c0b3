"""Muon moves what mixes channels, AdamW the rest, and both move the network itself."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from server_models.config_section import Schedule
from server_models.edge_net import SPECS, EdgeNet
from server_models.loop import denormals_flushed
from server_models.optimizer import Muon, mixing_weights, optimizers

RATE = 0.1
SCHEDULE = Schedule(steps=1, learning_rate=RATE, weight_decay=0.0)


def layers() -> dict[str, nn.Module]:
    made = {
        "linear": nn.Linear(12, 20),
        "pointwise": nn.Conv2d(12, 20, 1),
        "dense": nn.Conv2d(4, 20, 3),
    }
    return {name: layer.to(memory_format=torch.channels_last) for name, layer in made.items()}


@pytest.mark.parametrize("name", layers())
def test_a_step_goes_to_the_nearest_orthogonal_matrix(name: str) -> None:
    """Against numpy's SVD: same singular vectors, singular values near one, AdamW's step size."""
    torch.manual_seed(0)
    weight = layers()[name].get_parameter("weight")
    before, gradient = weight.detach().clone(), torch.randn(weight.shape)
    optimizer = Muon([weight], rate=RATE, decay=0.0)
    weight.grad = gradient.clone()
    optimizer.step()

    def matrix(values: Tensor) -> np.ndarray:
        array = values.numpy()
        return array.reshape(len(array), -1)

    moved = matrix(before - weight.detach()) / (RATE * 0.2 * max(matrix(before).shape) ** 0.5)
    left, _, right = np.linalg.svd(matrix(gradient), full_matrices=False)
    turned = left.T @ moved @ right.T  # diagonal where the singular vectors are the same
    assert np.abs(turned - np.diag(np.diag(turned))).max() < 0.1
    assert np.diag(turned).min() > 0.6
    assert np.diag(turned).max() < 1.3


def test_depthwise_weights_and_the_first_layer_are_adamws() -> None:
    net = EdgeNet(SPECS["kin-s"], 16)
    taken = {id(weight) for weight in mixing_weights(net)}
    convolutions = [each for each in net.modules() if isinstance(each, nn.Conv2d)]
    assert id(convolutions[0].weight) not in taken
    depthwise = [each for each in convolutions if each.groups > 1]
    assert depthwise
    assert not taken.intersection(id(each.weight) for each in depthwise)
    assert id(net.embed.weight) in taken


@pytest.mark.parametrize("method", ["muon", "adamw"])
def test_every_parameter_moves_once(method: str) -> None:
    """Also those outside of the network; none is left out, none is moved by two optimisers."""
    torch.manual_seed(0)
    net = EdgeNet(SPECS["kin-s"], 16)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = nn.Parameter(torch.randn(3, 16))
    found = optimizers(net, [other], SCHEDULE, method)  # type: ignore[arg-type]
    assert len(found) == (2 if method == "muon" else 1)
    parameters = [*net.parameters(), other]
    before = [each.detach().clone() for each in parameters]
    loss = (net(torch.randn(4, 3, 32, 32)) @ other.T).pow(2).sum()
    loss.backward()
    still = [each for each in parameters if not each.grad.any()]  # type: ignore[union-attr]
    for each in found:
        each.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, parameters, strict=True)]
    assert sum(moved) >= len(parameters) - len(still)
    sizes = [
        sum(p.numel() for group in each.param_groups for p in group["params"]) for each in found
    ]
    assert sum(sizes) == sum(each.numel() for each in parameters)
    for each in found:
        each.zero_grad()
    assert all(each.grad is None for each in parameters)


def test_denormals_count_again_after_a_training() -> None:
    """Flushing them is a state of the whole process, which others do not expect."""
    tiny = np.float32(1e-40)
    with pytest.raises(RuntimeError, match="in the middle"), denormals_flushed():
        raise RuntimeError("in the middle")
    assert tiny * np.float32(0.5) > 0
