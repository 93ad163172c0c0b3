"""What a member learns on, and where it is asked to land."""

from pathlib import Path

import numpy as np
import pytest
import torch

from compat.dataset import ROLES, LabelledImage
from compat.preprocess import Preprocess
from server_models.cloud_config import CloudConfig
from server_models.config import DataConfig, FamilyConfig
from server_models.config_section import Schedule
from server_models.lesson import Lesson, pulled_to_gallery
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded


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


@pytest.mark.parametrize(("stated", "learned_on"), [(True, [0, 2]), (False, [0, 1, 2, 3])])
def test_a_member_learns_on_what_a_phone_may_take(stated: bool, learned_on: list[int]) -> None:
    images = tuple(
        LabelledImage(
            Path(f"{at}.png"), f"{at}.png", f"class {at // 2}", "train", ROLES[at % 2],
            role_is_drawn=not stated,
        )
        for at in range(4)
    )  # fmt: skip
    decoded = Decoded(images, np.zeros((4, 8, 8, 3), np.uint8))
    member = MemberConfig(
        name="edge", backbone="kin-s", preprocess=Preprocess(size_px=8),
        schedule=Schedule(steps=1, learning_rate=1.0),
    )  # fmt: skip
    cloud = CloudConfig(preprocess=Preprocess(size_px=8), schedule=member.schedule)
    family = FamilyConfig(
        family="shop", data=DataConfig(path=Path("shop")), cloud=cloud, members=(member,)
    )
    lesson = Lesson.of(family, member, decoded, None, np.eye(4, dtype=np.float32))
    assert lesson.queries.tolist() == learned_on
    assert lesson.shown.tolist() == [1, 3]
