"""Images that cannot be used are named, all of them, with the cure; or left out when asked."""

from pathlib import Path

import pytest
from PIL import Image

from compat.dataset import Dataset, LabelledImage
from compat.errors import DataError
from compat.preprocess import Preprocess
from server_models.pixels import decode_all, without_bad

RECIPE = Preprocess(size_px=16)


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "good.jpg", quality=95)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:300])
    (tmp_path / "text.png").write_text("hello")
    names = ["good.jpg", "empty.jpg", "cut.jpg", "text.png"]
    return [LabelledImage(tmp_path / name, name, "a", "train", "query") for name in names]


def test_all_bad_images_are_named(images: list[LabelledImage]) -> None:
    with pytest.raises(DataError, match="3 of 4 images cannot be used") as caught:
        decode_all(images, RECIPE, title="decode")
    for name in ("empty.jpg", "cut.jpg", "text.png", 'on_bad_image = "skip"'):
        assert name in str(caught.value)


def test_bad_images_are_left_out_when_asked(images: list[LabelledImage]) -> None:
    dataset, refused = without_bad(Dataset(tuple(images)))
    assert [image.name for image in dataset.images] == ["good.jpg"]
    assert len(refused) == 3
    decoded = decode_all(dataset.images, RECIPE, title="decode")
    assert decoded.pixels.shape == (1, 16, 16, 3)
