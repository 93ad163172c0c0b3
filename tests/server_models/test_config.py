"""A family's TOML is strict."""

from pathlib import Path

import pytest

from compat.errors import ConfigError
from server_models.config import FamilyConfig, read_family


def test_paths_are_relative_to_the_file(shapes: Path, family: FamilyConfig) -> None:
    assert family.data.path == (shapes / "images" / "manifest.csv").resolve()
    assert family.space.id == "shapes/g1/16/cosine"


@pytest.mark.parametrize(
    ("was", "becomes", "named"),
    [
        ("dim = 16", "dimension = 16", "dimension"),
        ("steps = 4", "steps = 0", "cloud.schedule.steps"),
        ('name = "edge"', 'name = "cloud"', "repeat"),
        ('backbone = "kin-s"', 'backbone = "kin-xxl"', "members.0.backbone"),
        ("seed = 3", "seed = = 3", "not TOML"),
        ('family = "shapes"', 'family = "../shapes"', "family"),
    ],
)
def test_a_mistake_is_named(
    was: str, becomes: str, named: str, shapes: Path, tmp_path: Path
) -> None:
    text = (shapes / "shapes.toml").read_text()
    assert was in text
    (tmp_path / "bad.toml").write_text(text.replace(was, becomes, 1))
    with pytest.raises(ConfigError, match=named):
        read_family(tmp_path / "bad.toml")


def test_all_weights_zero_is_refused(shapes: Path, tmp_path: Path) -> None:
    text = (shapes / "shapes.toml").read_text()
    (tmp_path / "bad.toml").write_text(
        text + "losses = { regression = 0, relation = 0, influence = 0 }\n"
    )
    with pytest.raises(ConfigError, match="nothing would be learned"):
        read_family(tmp_path / "bad.toml")
