"""Images without a label teach where to land, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compat.dataset import UNLABELLED, LabelledImage
from server_models.config import read_family
from server_models.family import Family
from server_models.loss_config import LossTerm
from server_models.pixels import Decoded
from server_models.terms import Batch, Gallery, weighted


def _image(label: str) -> LabelledImage:
    return LabelledImage(Path("x.png"), "x.png", label, "train", "query")


def test_no_label_is_no_class() -> None:
    images = tuple(_image(label) for label in ("b", UNLABELLED, "a"))
    decoded = Decoded(images, np.zeros((3, 4, 4, 3), dtype=np.uint8))
    assert decoded.classes == ("a", "b")
    assert decoded.targets().tolist() == [1, -1, 0]


def test_terms_that_read_labels_skip_images_without_and_the_others_do_not() -> None:
    rng = torch.Generator().manual_seed(0)
    query, seen = (torch.randn(6, 8, generator=rng) for _ in range(2))
    labels = torch.tensor([0, 1, 2, -1, -1, -1])
    gallery = Gallery.of(seen[:3], labels[:3], None, 16.0)
    head = torch.randn(3, 8, generator=rng)
    terms = [LossTerm(term="influence", weight=1.0), LossTerm(term="regression", weight=1.0)]
    mixed = weighted(terms, Batch(query, seen, seen, labels, head), gallery)
    only = weighted(terms, Batch(query[:3], seen[:3], seen[:3], labels[:3], head), gallery)
    assert torch.equal(mixed["influence"], only["influence"])
    assert not torch.equal(mixed["regression"], only["regression"])


def test_a_family_learns_from_images_without_a_label(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pool / f"{number}.png")
    config = read_family(shapes / "shapes.toml")
    data = config.data.model_copy(update={"unlabelled": pool})
    plain, helped = (
        Family(config, tmp_path / "a"),
        Family(config.model_copy(update={"data": data}), tmp_path / "b"),
    )
    for family in (plain, helped):
        family.train_cloud()
        family.train_member(config.members[0])
    anchors = helped.unlabelled_anchors()
    assert anchors.shape == (20, config.dim)
    assert np.allclose(np.linalg.norm(anchors, axis=1), 1, atol=1e-5)
    assert np.array_equal(plain.anchors(), helped.anchors())  # the gallery model never sees them
    assert plain.data_digest != helped.data_digest
    weights = [f.folder("edge").weights.read_bytes() for f in (plain, helped)]
    assert weights[0] != weights[1]

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr("server_models.gallery_model.TrainedGallery.embed", never)
    assert np.array_equal(helped.unlabelled_anchors(), anchors)
