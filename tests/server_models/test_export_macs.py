"""Costs against arithmetic done by hand."""

import torch
from torch import nn

from server_models.export import count_macs, count_params


def test_macs_and_params_of_a_small_network_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 32 px -> 16 px
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # depthwise
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False),  # four groups
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).train()
    running_mean = net[1].running_mean.clone()
    at_16_px = 16 * 16
    by_hand = (
        at_16_px * 8 * (3 * 9)
        + at_16_px * 8 * (1 * 9)
        + at_16_px * 16 * 8
        + at_16_px * 16 * (4 * 9)
        + 16 * 10
    )
    assert count_macs(net, 32) == by_hand
    assert count_params(net) == 8 * 27 + 16 + 8 * 9 + (16 * 8 + 16) + 16 * 4 * 9 + (16 * 10 + 10)
    assert net.training
    assert torch.equal(net[1].running_mean, running_mean)


def test_macs_of_convolutions_grow_with_the_area():
    net = nn.Conv2d(3, 4, 1)
    assert count_macs(net, 64) == 4 * count_macs(net, 32) == 64 * 64 * 12


def test_frozen_layers_stay_in_eval_mode_after_counting():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    net[1].eval()
    count_macs(net, 8)
    assert net.training
    assert not net[1].training


def test_a_shared_weight_counts_once():
    layer = nn.Linear(6, 6, bias=False)
    assert count_params(nn.Sequential(layer, layer)) == 36
