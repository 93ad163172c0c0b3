"""Where a query is asked to land."""

import torch

from server_models.lesson import pulled_to_gallery


def test_a_query_is_pulled_half_way_to_its_class_in_the_gallery() -> None:
    anchors = torch.eye(4)  # two queries, two gallery images
    targets = torch.tensor([0, 1, 0, 1])
    aims = pulled_to_gallery(anchors, targets, torch.tensor([False, False, True, True]))
    half = 2**-0.5
    assert torch.allclose(aims[0], torch.tensor([half, 0.0, half, 0.0]))
    assert torch.allclose(aims[1], torch.tensor([0.0, half, 0.0, half]))
    assert torch.allclose(aims.norm(dim=1), torch.ones(4))
    assert torch.equal(anchors, torch.eye(4))


def test_a_class_without_gallery_images_is_pulled_to_its_own_mean() -> None:
    anchors = torch.eye(2)
    aims = pulled_to_gallery(anchors, torch.tensor([0, 0]), torch.tensor([False, False]))
    assert aims[0, 0] > aims[0, 1] > 0
