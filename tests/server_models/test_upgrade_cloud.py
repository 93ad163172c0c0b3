"""What the old model's head becomes for the new model's classes, and the terms that read it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from compat.dataset import LabelledImage
from compat.errors import ConfigError
from server_models.config import UpgradeConfig
from server_models.loss_config import LossTerm
from server_models.pixels import Decoded
from server_models.terms import TERMS, Batch, Gallery
from server_models.train_cloud import Start
from server_models.upgrade_cloud import OldView, aims_of, start_of

LABELS = ("a", "b", "b", "c", "c")
ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
OLD_HEAD = {"a": np.eye(4, dtype=np.float32)[0], "gone": np.eye(4, dtype=np.float32)[3]}


def decoded() -> Decoded:
    images = tuple(
        LabelledImage(Path(str(i)), str(i), label, "train", "query")
        for i, label in enumerate(LABELS)
    )
    return Decoded(images, np.zeros((5, 2, 2, 3), np.uint8))


def gallery(head: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> Gallery:
    return OldView(ROWS, head, "d").gallery(decoded(), 16.0)


def test_rows_that_the_old_head_has_stand_and_the_others_are_class_means() -> None:
    found = gallery(OLD_HEAD)
    assert found.known.tolist() == [True, False, False]
    torch.testing.assert_close(found.head[0], torch.eye(4)[0])
    unit = F.normalize(torch.from_numpy(ROWS))
    torch.testing.assert_close(found.head[1], F.normalize(unit[1:3].sum(0), dim=0))
    torch.testing.assert_close(found.head[2], F.normalize(unit[3:].sum(0), dim=0))


def test_vectors_alone_give_a_whole_head() -> None:
    found = gallery({})
    assert found.known.all()
    torch.testing.assert_close(found.head, found.centres)


def test_an_image_lands_half_way_to_its_class_in_the_old_gallery_or_where_it_was() -> None:
    images = (*decoded().images[:1], *(replace(i, role="gallery") for i in decoded().images[1:]))
    shown = Decoded(images, decoded().pixels)
    old, unit = gallery(OLD_HEAD), F.normalize(torch.from_numpy(ROWS))
    torch.testing.assert_close(aims_of(old, shown, UpgradeConfig(aim="image")), old.embeddings)
    centre = F.normalize(old.embeddings[1:3].mean(0), dim=0)
    expected = F.normalize(old.embeddings[1:3] + centre)
    torch.testing.assert_close(aims_of(old, shown, UpgradeConfig())[1:3], expected)
    torch.testing.assert_close(aims_of(old, decoded(), UpgradeConfig())[0], unit[0])


def test_an_upgrade_begins_with_its_backbone_or_with_the_old_weights() -> None:
    net = torch.nn.Linear(2, 2)
    assert start_of(UpgradeConfig(), net, "d") is None
    assert start_of(UpgradeConfig(start="old"), net, "d") == Start(net, "d")
    with pytest.raises(ConfigError, match='only its vectors are left: set start = "backbone"'):
        start_of(UpgradeConfig(start="old"), None, "d")


def batch(query: torch.Tensor, labels: list[int]) -> Batch:
    seen = torch.from_numpy(ROWS)[: len(query)]
    return Batch(query, seen, seen, torch.tensor(labels), torch.eye(3, 4))


def test_distillation_is_least_where_the_embedding_is_the_old_one() -> None:
    old = gallery({**OLD_HEAD, "b": np.eye(4, dtype=np.float32)[1]})
    same = TERMS["distilled"](batch(torch.from_numpy(ROWS), [0, 1, 1, 2, 2]), old)
    other = TERMS["distilled"](batch(torch.from_numpy(-ROWS), [0, 1, 1, 2, 2]), old)
    assert same.shape == (5,)
    assert (same < other).all()


def test_new_classes_are_distilled_and_old_ones_are_read() -> None:
    old = gallery({**OLD_HEAD, "b": np.eye(4, dtype=np.float32)[1]})
    query = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    asked = batch(query, [0, 1, 1, 2, 2])
    mixed = TERMS["influence_kd"](asked, old)
    logits = 16.0 * F.normalize(query) @ torch.eye(2, 4).T
    read = F.cross_entropy(logits[:3], torch.tensor([0, 1, 1]), reduction="none")
    torch.testing.assert_close(mixed[:3], read)
    torch.testing.assert_close(mixed[3:], TERMS["distilled"](asked, old)[3:])


def test_a_term_stands_once() -> None:
    twice = (LossTerm(term="influence", weight=1), LossTerm(term="influence", weight=2))
    with pytest.raises(ValueError, match="twice"):
        UpgradeConfig(losses=twice)
