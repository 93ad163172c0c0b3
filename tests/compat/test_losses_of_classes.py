"""Terms that look at classes and logits, against loops over plain numbers."""

import math

import pytest
import torch
from torch import Tensor

from compat.losses.aml import aml_loss
from compat.losses.boundary import boundary_loss, class_radii
from compat.losses.focal import focal_weights, logit_matching, softened_divergence
from compat.losses.logit_kd import logit_kd_loss
from compat.losses.synthesised import synthesised_head

N, C, D, M = 5, 3, 4, 8
LABELS = torch.tensor([0, 2, 1, 1, 2])
GALLERY_LABELS = torch.tensor([0, 0, 1, 1, 1, 0, 0, 1])  # nothing of class 2


@pytest.fixture
def given() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    shapes = {"query": (N, D), "gallery": (M, D), "new": (N, C), "old": (N, C)}
    return {
        name: torch.randn(*shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.tolist(), b.tolist()
    return sum(p * q for p, q in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


def softmax(logits: Tensor, temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in logits.tolist()]
    return [x / sum(powers) for x in powers]


def test_aml_equals_its_formula(given: dict[str, Tensor]) -> None:
    found = aml_loss(given["query"], given["gallery"], LABELS, GALLERY_LABELS, margin=0.1)
    for i, label in enumerate(LABELS.tolist()):
        scores = [cosine(given["query"][i], row) for row in given["gallery"]]
        same = [
            s for s, other in zip(scores, GALLERY_LABELS.tolist(), strict=True) if other == label
        ]
        rest = [
            s for s, other in zip(scores, GALLERY_LABELS.tolist(), strict=True) if other != label
        ]
        total = sum(1 - s for s in same) / len(same) if same else 0.0
        total += sum(max(0.0, s - 0.1) for s in rest) / len(rest)
        assert found[i].item() == pytest.approx(total)


def test_a_synthesised_head_is_the_mean_direction_of_each_class(given: dict[str, Tensor]) -> None:
    head = synthesised_head(given["gallery"], GALLERY_LABELS, classes=C)
    for label in (0, 1):
        rows = [
            [x / math.hypot(*row) for x in row]
            for row, own in zip(given["gallery"].tolist(), GALLERY_LABELS.tolist(), strict=True)
            if own == label
        ]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        assert head[label].tolist() == pytest.approx([x / math.hypot(*mean) for x in mean])
    assert head[2].tolist() == [0.0] * D


def test_a_query_inside_the_boundary_costs_nothing(given: dict[str, Tensor]) -> None:
    centres = torch.eye(C, D, dtype=torch.float64)
    radii = class_radii(given["gallery"], GALLERY_LABELS, centres)
    outermost = [
        max(
            1 - cosine(row, centres[label])
            for row, own in zip(given["gallery"], GALLERY_LABELS.tolist(), strict=True)
            if own == label
        )
        for label in (0, 1)
    ]
    assert radii.tolist() == pytest.approx([*outermost, 0.0])
    found = boundary_loss(given["query"], LABELS, centres, radii)
    for i, label in enumerate(LABELS.tolist()):
        distance = 1 - cosine(given["query"][i], centres[label])
        assert found[i].item() == pytest.approx(max(0.0, distance - radii[label].item()))
    assert boundary_loss(given["gallery"], GALLERY_LABELS, centres, radii).max() < 1e-12


def test_focal_distillation_weighs_what_the_old_model_knew(given: dict[str, Tensor]) -> None:
    old, new = given["old"], given["new"]
    weights = focal_weights(old, LABELS)
    for i, label in enumerate(LABELS.tolist()):
        row = old[i].tolist()
        assert weights[i].item() == (6.0 if row.index(max(row)) == label else 1.0)
    assert set(weights.tolist()) == {1.0, 6.0}
    for i in range(N):
        gaps = zip(new[i].tolist(), old[i].tolist(), strict=True)
        assert logit_matching(new, old)[i].item() == pytest.approx(
            sum((a - b) ** 2 for a, b in gaps) / 2
        )


def test_divergences_equal_their_formulas(given: dict[str, Tensor]) -> None:
    old, new = given["old"], given["new"]
    kl = softened_divergence(new, old, temperature=3.0)
    kd = logit_kd_loss(new, old, temperature=3.0)
    for i in range(N):
        p, q = softmax(old[i], 3.0), softmax(new[i], 3.0)
        pairs = list(zip(p, q, strict=True))
        assert kl[i].item() == pytest.approx(9 * sum(a * math.log(a / b) for a, b in pairs))
        assert kd[i].item() == pytest.approx(-9 * sum(a * math.log(b) for a, b in pairs))


@pytest.mark.parametrize("name", ["aml", "boundary", "logit_matching", "softened", "logit_kd"])
def test_gradient_is_right_and_the_other_model_is_frozen(
    name: str, given: dict[str, Tensor]
) -> None:
    gallery, old = given["gallery"].requires_grad_(), given["old"].requires_grad_()
    centres = torch.eye(C, D, dtype=torch.float64)
    terms = {
        "aml": (lambda q: aml_loss(q, gallery, LABELS, GALLERY_LABELS, margin=0.05), "query"),
        "boundary": (
            lambda q: boundary_loss(q, LABELS, centres, torch.zeros(C, dtype=torch.float64)),
            "query",
        ),
        "logit_matching": (lambda z: logit_matching(z, old), "new"),
        "softened": (lambda z: softened_divergence(z, old), "new"),
        "logit_kd": (lambda z: logit_kd_loss(z, old), "new"),
    }
    term, argument = terms[name]
    moving = given[argument].requires_grad_()
    assert term(moving).shape == (N,)
    assert torch.autograd.gradcheck(term, (moving,))
    torch.autograd.backward(term(moving).sum())
    assert gallery.grad is None
    assert old.grad is None
