"""Terms that compare items of a batch, against loops over plain numbers."""

import math

import pytest
import torch
from torch import Tensor

from compat.losses.d3still import d3still_loss
from compat.losses.raml import raml_loss
from compat.losses.rkd import rkd_loss

N, D, M = 4, 3, 7
Rows = list[list[float]]


@pytest.fixture
def given() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = {"query": (N, D), "gallery": (N, D), "anchors": (M, D)}
    return {
        name: torch.randn(*shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def unit(rows: Tensor) -> Rows:
    return [[x / math.hypot(*row) for x in row] for row in rows.tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def huber(a: float, b: float) -> float:
    gap = abs(a - b)
    return gap * gap / 2 if gap < 1 else gap - 0.5


def test_raml_equals_its_formula(given: dict[str, Tensor]) -> None:
    q, g = unit(given["query"]), unit(given["gallery"])
    found = raml_loss(given["query"], given["gallery"])
    for i in range(N):
        total = (1 - dot(q[i], g[i])) ** 2
        for j in range(N):
            if j != i:
                wanted = dot(g[i], g[j])
                total += (dot(q[i], g[j]) - wanted) ** 2 / (N - 1)
                total += (dot(q[i], q[j]) - wanted) ** 2 / (N - 1)
        assert found[i].item() == pytest.approx(total)


def test_d3still_equals_its_formula(given: dict[str, Tensor]) -> None:
    q, g, anchors = (unit(given[name]) for name in ("query", "gallery", "anchors"))
    found = d3still_loss(
        given["query"], given["gallery"], given["anchors"], neighbours=4, order_weight=0.7,
        spread_weight=0.2,
    )  # fmt: skip
    seen_wrong = seen_right = 0
    for i in range(N):
        near = sorted(anchors, key=lambda a: -dot(g[i], a))[:4]
        wrong, right = [], []
        for x in range(4):
            for y in range(x + 1, 4):
                wanted = dot(g[i], near[x]) - dot(g[i], near[y])
                gap = dot(q[i], near[x]) - dot(q[i], near[y])
                error = ((gap - wanted) / (0.1 + wanted)) ** 2
                (wrong if gap < 0 else right).append(error)
        seen_wrong, seen_right = seen_wrong + len(wrong), seen_right + len(right)
        total = sum((a - b) ** 2 for a, b in zip(q[i], g[i], strict=True))
        total += 0.7 * (sum(wrong) / len(wrong) if wrong else 0)
        total += 0.2 * (sum(right) / len(right) if right else 0)
        assert found[i].item() == pytest.approx(total)
    assert seen_wrong
    assert seen_right


def test_rkd_equals_its_formula(given: dict[str, Tensor]) -> None:
    q, g = unit(given["query"]), unit(given["gallery"])
    found = rkd_loss(given["query"], given["gallery"])

    def distances(rows: Rows) -> Rows:
        apart = [[math.dist(a, b) for b in rows] for a in rows]
        mean = sum(map(sum, apart)) / (N * (N - 1))
        return [[d / mean for d in row] for row in apart]

    def towards(rows: Rows, i: int, j: int) -> list[float]:
        length = math.dist(rows[i], rows[j])
        return [(b - a) / length if length else 0.0 for a, b in zip(rows[i], rows[j], strict=True)]

    dq, dg = distances(q), distances(g)
    for i in range(N):
        total = sum(huber(dq[i][j], dg[i][j]) for j in range(N)) / N
        for j in range(N):
            for k in range(N):
                here = dot(towards(q, i, j), towards(q, i, k))
                there = dot(towards(g, i, j), towards(g, i, k))
                total += 2 * huber(here, there) / N**2
        assert found[i].item() == pytest.approx(total)


def test_rkd_is_blind_to_a_rotation_and_the_anchored_terms_are_not(
    given: dict[str, Tensor],
) -> None:
    """What makes it a baseline: a query model in another coordinate system costs it nothing."""
    gallery = given["gallery"]
    turned = gallery @ torch.linalg.qr(given["anchors"][:D])[0]
    assert rkd_loss(turned, gallery).max() == pytest.approx(0, abs=1e-9)
    assert raml_loss(turned, gallery).min() > 0.01
    assert d3still_loss(turned, gallery, given["anchors"]).min() > 0.01


@pytest.mark.parametrize("name", ["raml", "d3still", "rkd"])
def test_gradient_is_right_and_a_perfect_query_costs_nothing(
    name: str, given: dict[str, Tensor]
) -> None:
    gallery, anchors = given["gallery"], given["anchors"]
    term = {
        "raml": lambda q: raml_loss(q, gallery),
        "d3still": lambda q: d3still_loss(q, gallery, anchors, neighbours=4),
        "rkd": lambda q: rkd_loss(q, gallery),
    }[name]
    query = given["query"].requires_grad_()
    assert term(query).shape == (N,)
    assert torch.autograd.gradcheck(term, (query,))
    assert torch.allclose(term(query), term(query * 3.0))
    assert torch.allclose(term(gallery), torch.zeros(N, dtype=torch.float64), atol=1e-9)
