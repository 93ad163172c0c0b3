"""Spaces: equal id if and only if comparable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compat.errors import SpaceError
from compat.space import EmbeddingSpace, check_same_space

SPACES = st.builds(
    EmbeddingSpace,
    family=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True),
    generation=st.integers(1, 30),
    dim=st.integers(2, 40),
)


@given(SPACES, SPACES)
def test_the_id_carries_every_field(a, b):
    assert (a.id == b.id) == (a == b)


def test_an_id_is_readable():
    assert EmbeddingSpace(family="furniture", generation=3, dim=128).id == "furniture/g3/128/cosine"


def test_one_space_may_be_compared():
    check_same_space(query="furniture/g1/128/cosine", gallery="furniture/g1/128/cosine")


def test_attack_vectors_of_another_generation_of_the_same_dim():
    """Nothing but the id tells them apart: a score would come out, and mean nothing."""
    with pytest.raises(SpaceError, match=r"furniture/g1.*furniture/g2.*cannot be compared"):
        check_same_space(query="furniture/g1/128/cosine", gallery="furniture/g2/128/cosine")


@pytest.mark.parametrize(
    "change",
    [
        {"family": "../etc"},
        {"family": "a/b"},
        {"family": ""},
        {"family": "A"},
        {"family": "a\n"},
        {"family": "a" * 64},
        {"generation": 0},
        {"dim": 1},
        {"dim": 65537},
        {"score": "dot"},
        {"scores": "cosine"},
    ],
)
def test_what_is_no_space_is_refused(change):
    with pytest.raises(ValidationError):
        EmbeddingSpace(**{"family": "furniture", "generation": 1, "dim": 128} | change)


def test_a_space_is_frozen():
    with pytest.raises(ValidationError):
        EmbeddingSpace(family="furniture", generation=1, dim=128).dim = 64
