"""A member written as TOML is the same member when it is read."""

import tomllib
from pathlib import Path

import pytest

import registry
from registry.member_toml import member_toml
from server_models.config import read_family
from server_models.edge_net import SPECS
from server_models.member_config import MemberConfig

DEMO = read_family(Path(registry.__file__).parent / "demo.toml").members
OWN = MemberConfig.model_validate(
    {**DEMO[0].model_dump(), "backbone": SPECS["kin-s"].model_dump(), "start": "nothing"}
)
CONGRUENT = MemberConfig.model_validate(
    {
        **DEMO[1].model_dump(),
        "losses": [{"term": "fd_csd", "weight": 1.0}],
        "previous": ["/runs/v1/models/edge", '/runs/"v2"/models/edge'],
    }
)


@pytest.mark.parametrize(
    "member", [*DEMO, OWN, CONGRUENT], ids=["cloud's", "80 px", "starter", "own", "next"]
)
def test_a_section_reads_as_the_member_it_was(member: MemberConfig) -> None:
    [section] = tomllib.loads(member_toml(member))["members"]
    assert MemberConfig.model_validate(section) == member
