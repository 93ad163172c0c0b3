"""A policy's TOML: strict, and every refusal names what is wrong and what is known."""

import pytest

from compat.errors import ConfigError
from compat.policy import Policy, read_policy

GOOD = """
min_cross_to_paragon = 0.95

[[rules]]
name = "close"
measure = "cross_minus_paragon.hit_rate@10"
non_inferior_by = 0.003
precision = "int8"

[[overrides]]
rule = "close"
reason = "the pilot needs it this week"
signer = "M. Ruiz"
"""


def test_a_policy_is_read(tmp_path):
    (tmp_path / "p.toml").write_text(GOOD)
    policy = read_policy(tmp_path / "p.toml")
    assert policy.min_cross_to_paragon == 0.95
    assert policy.rules[0].non_inferior_by == 0.003
    assert policy.override_of("close").signer == "M. Ruiz"
    assert policy.min_parity_cosine == Policy().min_parity_cosine


@pytest.mark.parametrize(
    ("was", "becomes", "named"),
    [
        ("min_cross_to_paragon", "min_cros", "min_cros: Extra inputs.*known keys: min_cross_to"),
        ("non_inferior_by = 0.003", "", "give exactly one of min, max and non_inferior_by"),
        ("non_inferior_by = 0.003", "min = 1\nmax = 2", "give exactly one"),
        ('precision = "int8"', 'precision = "int9"', "rules.0.precision"),
        ('name = "close"', 'name = "parity"', "parity is a built-in rule"),
        ('rule = "close"', 'rule = "clos"', "no rule 'clos' to override; known: .*'close'"),
        ('reason = "the pilot needs it this week"', 'reason = "x"', "overrides.0.reason"),
        ('signer = "M. Ruiz"', "", "overrides.0.signer: Field required"),
        ("[[rules]]", "[[rules", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, was, becomes, named):
    assert was in GOOD
    (tmp_path / "p.toml").write_text(GOOD.replace(was, becomes, 1))
    with pytest.raises(ConfigError, match=named):
        read_policy(tmp_path / "p.toml")
