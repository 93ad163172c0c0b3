"""Loss terms against slow oracles that share no code, with a gradient check each."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from compat.losses.csd import csd_loss
from compat.losses.influence import influence_loss
from compat.losses.margin import margin_loss
from compat.losses.regression import regression_loss

N, C, D, M = 5, 4, 6, 9


@pytest.fixture
def given() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"query": (N, D), "gallery": (N, D), "head": (C, D), "anchors": (M, D)}
    tensors = {
        name: torch.randn(*shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    return tensors | {"labels": torch.tensor([0, 3, 1, 1, 2])}


def cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.tolist(), b.tolist()
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    return dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))


def entropy(logits: list[float], label: int) -> float:
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def test_margin_equals_its_formula(given: dict[str, Tensor]) -> None:
    found = margin_loss(given["query"], given["labels"], given["head"], scale=7, margin=0.3)
    for i, label in enumerate(given["labels"].tolist()):
        cosines = [cosine(given["query"][i], row) for row in given["head"]]
        cosines[label] -= 0.3
        assert found[i].item() == pytest.approx(entropy([7 * c for c in cosines], label))


def test_a_wider_embedding_is_read_by_its_first_dimensions(given: dict[str, Tensor]) -> None:
    wide = torch.cat([given["query"], torch.full((N, 3), 9.0)], dim=1)
    narrow = influence_loss(given["query"], given["labels"], given["head"], scale=5)
    assert torch.equal(influence_loss(wide, given["labels"], given["head"], scale=5), narrow)


def test_the_frozen_head_does_not_move(given: dict[str, Tensor]) -> None:
    head = given["head"].requires_grad_()
    query = given["query"].requires_grad_()
    torch.autograd.backward(influence_loss(query, given["labels"], head, scale=5).sum())
    assert head.grad is None
    assert query.grad is not None


def test_regression_equals_its_formula(given: dict[str, Tensor]) -> None:
    found = regression_loss(given["query"], given["gallery"])
    wanted = [1 - cosine(q, g) for q, g in zip(given["query"], given["gallery"], strict=True)]
    assert found.tolist() == pytest.approx(wanted)


def test_csd_equals_its_formula(given: dict[str, Tensor]) -> None:
    found = csd_loss(
        given["query"],
        given["gallery"],
        given["anchors"],
        neighbours=4,
        query_temperature=0.5,
        gallery_temperature=0.2,
    )
    for i in range(N):
        seen = [cosine(given["gallery"][i], a) for a in given["anchors"]]
        nearest = sorted(range(M), key=lambda j: -seen[j])[:4]
        p = np.exp([seen[j] / 0.2 for j in nearest])
        q = np.exp([cosine(given["query"][i], given["anchors"][j]) / 0.5 for j in nearest])
        p, q = p / p.sum(), q / q.sum()
        assert found[i].item() == pytest.approx(float((p * np.log(p / q)).sum()))


Term = Callable[[Tensor], Tensor]


@pytest.mark.parametrize("name", ["margin", "influence", "regression", "csd"])
def test_gradient_is_right_and_scale_is_free(name: str, given: dict[str, Tensor]) -> None:
    labels, head, gallery = given["labels"], given["head"], given["gallery"]
    terms: dict[str, Term] = {
        "margin": lambda q: margin_loss(q, labels, head, scale=3, margin=0.1),
        "influence": lambda q: influence_loss(q, labels, head, scale=3),
        "regression": lambda q: regression_loss(q, gallery),
        "csd": lambda q: csd_loss(q, gallery, given["anchors"], neighbours=M),
    }
    query = given["query"].requires_grad_()
    term = terms[name]
    assert term(query).shape == (N,)
    assert torch.autograd.gradcheck(term, (query,))
    assert torch.allclose(term(query), term(query * 3.0))
