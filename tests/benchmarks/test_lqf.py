"""What the LQF table compares: each method's optimum against a slower way to it."""

import torch
import torch.nn.functional as F

from benchmarks.lqf import (
    METHODS,
    cross_entropy,
    head_only,
    in_order,
    relative_increase,
    starter,
    table_of,
    with_solved_head,
)
from benchmarks.lqf_tasks import Task
from server_models.lqf.fit import one_hot
from server_models.lqf.kernel import Kernel


def test_the_linear_cross_entropy_is_at_its_optimum_in_weights() -> None:
    torch.manual_seed(0)
    jacobian, first = torch.randn(5 * 2, 7), torch.randn(5, 2)
    labels = torch.tensor([0, 1, 0, 1, 1])
    duals = cross_entropy(Kernel(jacobian @ jacobian.T, 2, 5, 0.0), first, labels)
    weights = (jacobian.T @ duals.reshape(-1)).requires_grad_()

    def loss(at: torch.Tensor) -> torch.Tensor:
        moved = first + (jacobian @ at).reshape(5, 2)
        return F.cross_entropy(moved, labels, reduction="sum") + 1e-4 / 2 * at.square().sum()

    [slope] = torch.autograd.grad(loss(weights), weights)
    assert float(slope.norm()) < 1e-3
    assert float(loss(weights.detach())) < 0.1 * float(loss(torch.zeros(7)))


def test_the_head_alone_is_a_ridge_regression_on_features() -> None:
    net = starter(2)
    torch.manual_seed(0)
    images, asked = torch.randn(6, 3, 64, 64), torch.randn(3, 3, 64, 64)
    targets = one_hot(torch.tensor([0, 1, 0, 1, 0, 1]), 2)
    found = head_only(net, images, targets, asked)
    with torch.no_grad():
        seen = torch.cat([net.features(images), torch.ones(6, 1)], 1).double()
        query = torch.cat([net.features(asked), torch.ones(3, 1)], 1).double()
    tried = []
    for decay in (0.001, 0.01, 0.1, 1.0):
        ridge = decay * float(seen.square().sum(1).mean()) * torch.eye(513)
        solved = [
            torch.linalg.solve(x.T @ x + ridge, x.T @ y)
            for x, y in ((seen[k], targets[k].double()) for k in folds(6))
        ]
        missed = [seen[i] @ w - targets[i] for i, w in enumerate(solved)]
        whole = torch.linalg.solve(seen.T @ seen + ridge, seen.T @ targets.double())
        tried.append((float(torch.stack(missed).square().sum()), whole))
    _, best = min(tried, key=lambda each: each[0])
    torch.testing.assert_close(found.double(), query @ best, atol=1e-2, rtol=1e-3)


def folds(count: int) -> list[list[int]]:
    return [[k for k in range(count) if k != i] for i in range(count)]


def test_shots_are_that_many_of_each_class_and_the_same_again() -> None:
    labels = torch.arange(12) % 3
    images = torch.arange(12.0)[:, None, None, None].expand(12, 3, 2, 2)
    task = Task("numbers", images, labels, images, labels, 3)
    chosen, of = task.shots(2, draw=1)
    assert of.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(chosen[:, 0, 0, 0] % 3, of.float())
    assert torch.equal(task.shots(2, draw=1)[0], chosen)
    assert not torch.equal(task.shots(2, draw=2)[0], chosen)


def test_the_table_says_the_increase_over_descent() -> None:
    rows: list[dict[str, object]] = [
        {"task": "t", "shots": shots, "method": method, "error": error * (1 + place / 10)}
        for shots, error in ((1, 0.5), (5, 0.4))
        for place, method in enumerate(METHODS)
    ]
    assert round(relative_increase(rows, METHODS[1]), 6) == 0.1
    table = table_of(rows, 0.99, 1e-3)
    assert "| t | 1 | 50.0 | 55.0 | 60.0 | 65.0 | 70.0 | 75.0 |" in table
    assert "lqf +10%" in table


def test_a_method_measured_alone_takes_its_place_in_the_table() -> None:
    rows: list[dict[str, object]] = [
        {"task": "t", "shots": shots, "method": method, "error": 0.5}
        for shots in (1, 5)
        for method in METHODS[:-1]
    ]
    new = [{"task": "t", "shots": s, "method": METHODS[-1], "error": 0.4} for s in (1, 5)]
    ordered = in_order([*rows, *new])
    assert [row["method"] for row in ordered] == [*METHODS, *METHODS]
    assert in_order([*ordered, {**new[0], "error": 0.3}])[len(METHODS) - 1]["error"] == 0.3


def test_a_network_with_a_solved_head_says_what_the_head_says() -> None:
    net = starter(2)
    torch.manual_seed(0)
    images, asked = torch.randn(6, 3, 64, 64), torch.randn(3, 3, 64, 64)
    targets = one_hot(torch.tensor([0, 1, 0, 1, 0, 1]), 2)
    with torch.no_grad():
        found = with_solved_head(net, images, targets)(asked)
    torch.testing.assert_close(found, head_only(net, images, targets, asked), atol=1e-3, rtol=1e-3)
