"""Losses in a family's TOML: a list of terms of compat/losses and their weights."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from server_models.config_section import Section

TermName = Literal[
    "regression",  # land where the gallery model lands
    "csd",  # see the gallery's neighbourhoods as it does
    "influence",  # be read by its frozen head
    "synthesised",  # be read by the class means of its embeddings
    "distilled",  # be read by its frozen head as its own embedding is
    "influence_kd",  # be read by it where it knows the class, distilled where not
    "aml",
    "raml",
    "d3still",
    "boundary",
    "focal",  # these four see no coordinate of the gallery: baselines
    "logit_kd",
    "rkd",
    "classification",
    "fd_lm",  # the rest agree with `previous`, more where it was right: logits of the classes,
    "fd_kl",
    "fd_regression",  # and, in the gallery's space, its embedding
    "fd_csd",  # and what it saw around it
    "reweighted",  # a baseline: classification, heavier where `previous` was right
]
CONGRUENT: frozenset[TermName] = frozenset(
    ("fd_lm", "fd_kl", "fd_regression", "fd_csd", "reweighted")
)


class LossTerm(Section):
    """A term of compat/losses and its weight."""

    term: TermName
    weight: float = Field(gt=0)


def _each_term_once(losses: tuple[LossTerm, ...]) -> tuple[LossTerm, ...]:
    named = [each.term for each in losses]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"losses name {repeated} twice: give each term once, with its weight")
    return losses


Losses = Annotated[tuple[LossTerm, ...], Field(min_length=1), AfterValidator(_each_term_once)]
ANCHORED = (  # what lands best: "ours" in benchmarks/results/pattern-objects820.md, -emoji.md
    LossTerm(term="regression", weight=1.0),
    LossTerm(term="csd", weight=0.5),
    LossTerm(term="d3still", weight=1.0),
    LossTerm(term="influence", weight=0.1),
)
BACKWARD = (  # BCT with synthesised rows, and landing near what the old model said
    LossTerm(term="influence", weight=3.0),
    LossTerm(term="regression", weight=20.0),
)
