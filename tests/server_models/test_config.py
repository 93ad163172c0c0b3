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
        (
            'backbone = "kin-s"',
            'backbone = "kin-xxl"',
            "members.0.backbone: Input should be 'kin-s'",
        ),
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


def test_an_upgrade_agrees_with_no_query_model(shapes: Path, tmp_path: Path) -> None:
    text = (shapes / "shapes.toml").read_text()
    upgrade = '[upgrade]\nlosses = [{ term = "fd_csd", weight = 1 }]\n'
    (tmp_path / "bad.toml").write_text(text + upgrade)
    with pytest.raises(ConfigError, match=r"upgrade.losses: .*'fd_csd'.*a member's section"):
        read_family(tmp_path / "bad.toml")


def test_only_the_mistake_is_named(shapes: Path, tmp_path: Path) -> None:
    text = (shapes / "shapes.toml").read_text()
    (tmp_path / "bad.toml").write_text(f'{text}optimizer = "never"\n')
    with pytest.raises(ConfigError) as caught:
        read_family(tmp_path / "bad.toml")
    assert (
        str(caught.value).split(".toml: ")[1]
        == "members.0.optimizer: Input should be 'muon' or 'adamw'"
    )


@pytest.mark.parametrize(
    ("losses", "named"),
    [
        ("[]", "losses"),
        (
            '[{ term = "regresion", weight = 1 }]',
            "losses.0.term: Input should be 'regression', 'csd'",
        ),
        ('[{ term = "csd", weight = 0 }]', "losses.0.weight"),
        (
            '[{ term = "csd", weight = 1 }, { term = "csd", weight = 2 }]',
            "give each term once",
        ),
    ],
)
def test_losses_are_known_terms_with_a_weight(
    shapes: Path, tmp_path: Path, losses: str, named: str
) -> None:
    text = (shapes / "shapes.toml").read_text()
    (tmp_path / "bad.toml").write_text(f"{text}losses = {losses}\n")
    with pytest.raises(ConfigError, match=named):
        read_family(tmp_path / "bad.toml")
