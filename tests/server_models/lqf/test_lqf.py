"""Linear quadratic fine-tuning against finite differences, ridge regression and retraining."""

import copy

import pytest
import torch
from torch import Tensor, nn

from compat.errors import KinspaceError
from server_models.lqf import fit as fitting
from server_models.lqf.fit import fit, one_hot
from server_models.lqf.kernel import Kernel, averaged_kernel, exact_kernel, kernel_of
from server_models.lqf.tangent import Tangent, minus, move, norm

N, D = 9, 3


def tiny(seed: int = 0) -> nn.Module:
    """(N, 3, 6, 6) -> (N, 3), smooth, with batch norm; in double precision."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, D)
    ).double()
    net.train()
    net(torch.randn(32, 3, 6, 6, dtype=torch.double))  # statistics unlike the ones of N images
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.randn(N, 3, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> Tensor:
    labels = torch.randint(0, D, (N,), generator=torch.Generator().manual_seed(2))
    return one_hot(labels, D).double()


@pytest.fixture
def tangent(images: Tensor) -> Tangent:
    return Tangent(tiny(), images)


def dense_jacobian(net: nn.Module, images: Tensor) -> Tensor:
    """By central differences, one weight at a time: (N D, P)."""
    moved, step, columns = copy.deepcopy(net).eval(), 1e-5, []
    with torch.no_grad():
        for weight in moved.parameters():
            for place in range(weight.numel()):
                flat = weight.view(-1)
                flat[place] += step
                above = moved(images)
                flat[place] -= 2 * step
                below = moved(images)
                flat[place] += step
                columns.append(((above - below) / (2 * step)).reshape(-1))
    return torch.stack(columns, dim=1)


def ridge_regression(jacobian: Tensor, residuals: Tensor, ridge: float) -> Tensor:
    """The explicit optimum in weights: (N D, P), (N, D) -> (P,)."""
    normal = jacobian.T @ jacobian + ridge * torch.eye(jacobian.shape[1], dtype=torch.double)
    return torch.linalg.solve(normal, jacobian.T @ residuals.reshape(-1))


def flat(change: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in change.values()])


def test_products_are_those_of_the_jacobian_by_finite_differences(
    tangent: Tangent, images: Tensor
) -> None:
    jacobian = dense_jacobian(tangent.net, images)
    change = {name: torch.randn_like(value) for name, value in tangent.weights.items()}
    duals = torch.randn(N, D, dtype=torch.double)
    pushed = (jacobian @ flat(change)).reshape(N, D)
    torch.testing.assert_close(tangent.push(change), pushed, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(
        flat(tangent.pull(duals)), jacobian.T @ duals.reshape(-1), atol=1e-7, rtol=1e-6
    )
    torch.testing.assert_close(tangent.jacobian(images), jacobian, atol=1e-7, rtol=1e-6)


def test_more_images_than_a_batch_give_the_same_products(
    tangent: Tangent, monkeypatch: pytest.MonkeyPatch
) -> None:
    duals = torch.randn(N, D, dtype=torch.double)
    whole = tangent.pull(duals)
    pushed = tangent.push(whole)
    monkeypatch.setattr("server_models.lqf.tangent.BATCH", 4)
    torch.testing.assert_close(tangent.push(whole), pushed)
    torch.testing.assert_close(flat(tangent.pull(duals)), flat(whole))
    torch.testing.assert_close(
        tangent.push(whole), Tangent(tangent.net, tangent.images).push(whole)
    )


def test_linearising_changes_neither_weights_nor_statistics(images: Tensor) -> None:
    net = tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tangent = Tangent(net, images)
    tangent.push(tangent.pull(torch.ones(N, D, dtype=torch.double)))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("is_exact", [True, False])
def test_the_optimum_is_that_of_an_explicit_ridge_regression(
    tangent: Tangent, images: Tensor, targets: Tensor, is_exact: bool
) -> None:
    exact = kernel_of(tangent, decay=0.02)
    kernel = exact if is_exact else Kernel(averaged_kernel(tangent, seed=0), D, N, exact.ridge)
    assert kernel.is_exact == is_exact
    found = fit(tangent, targets, kernel, tolerance=1e-10)
    jacobian = dense_jacobian(tangent.net, images)
    expected = ridge_regression(jacobian, targets - tangent.outputs, exact.ridge)
    torch.testing.assert_close(flat(found.change), expected, atol=1e-6, rtol=1e-5)
    assert found.left <= 1e-10
    if is_exact:
        assert found.steps <= 3


def test_the_preconditioner_spares_steps(tangent: Tangent, targets: Tensor) -> None:
    exact = kernel_of(tangent, decay=0.02)
    averaged = Kernel(averaged_kernel(tangent, seed=0), D, N, exact.ridge)
    none = Kernel(torch.zeros(N, N, dtype=torch.double), D, N, exact.ridge)
    steps = [fit(tangent, targets, each, tolerance=1e-8).steps for each in (averaged, none)]
    assert steps[0] < steps[1]


def test_the_averaged_kernel_is_the_mean_of_the_outputs_blocks(
    tangent: Tangent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server_models.lqf.kernel.PROBES", 200)
    blocks = exact_kernel(tangent).reshape(N, D, N, D)
    mean = torch.stack([blocks[:, d, :, d] for d in range(D)]).mean(0)
    averaged = averaged_kernel(tangent, seed=0)
    assert float((averaged - mean).norm() / mean.norm()) < 0.1


def test_hashed_gradients_keep_their_inner_products(
    tangent: Tangent, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = averaged_kernel(tangent, seed=0)
    monkeypatch.setattr("server_models.lqf.kernel.SKETCH", 250)  # of 311 weights
    hashed = averaged_kernel(tangent, seed=0)
    assert not torch.equal(hashed, whole)
    assert float((hashed - whole).norm() / whole.norm()) < 0.2


def test_leaving_an_image_out_equals_retraining_without_it(
    tangent: Tangent, images: Tensor, targets: Tensor
) -> None:
    kernel = kernel_of(tangent, decay=0.02)
    found = fit(tangent, targets, kernel, tolerance=1e-12)
    jacobian = dense_jacobian(tangent.net, images)
    residuals = targets - tangent.outputs
    unseen = kernel.left_out_residuals(found.duals)
    shifts = kernel.shifts(found.duals)
    for image in range(N):
        kept = [i for i in range(N) if i != image]
        rows = torch.tensor([i * D + d for i in kept for d in range(D)])
        retrained = ridge_regression(jacobian[rows], residuals[kept], kernel.ridge)
        duals = kernel.left_out(found.duals, [image])
        assert torch.count_nonzero(duals[image]) == 0
        torch.testing.assert_close(flat(tangent.pull(duals)), retrained, atol=1e-6, rtol=1e-5)
        own = jacobian[image * D : image * D + D]
        torch.testing.assert_close(
            unseen[image], residuals[image] - own @ retrained, atol=1e-6, rtol=1e-5
        )
        moved = float((flat(found.change) - retrained).norm())
        assert float(shifts[image]) == pytest.approx(moved, rel=1e-4)


def test_the_averaged_kernel_ranks_images_as_retraining_does(
    tangent: Tangent, targets: Tensor
) -> None:
    exact = kernel_of(tangent, decay=0.02)
    found = fit(tangent, targets, exact, tolerance=1e-10)
    averaged = Kernel(averaged_kernel(tangent, seed=0), D, N, exact.ridge)
    both = torch.stack([exact.shifts(found.duals), averaged.shifts(found.duals)])
    assert float(torch.corrcoef(both)[0, 1]) > 0.9


def test_taking_images_away_or_adding_them_ends_where_training_anew_does(
    tangent: Tangent, images: Tensor, targets: Tensor
) -> None:
    kernel = kernel_of(tangent, decay=0.02)
    whole = fit(tangent, targets, kernel, tolerance=1e-10)
    kept = [0, 1, 3, 4, 6, 8]
    fewer = Tangent(tangent.net, images[kept])
    anew = fit(fewer, targets[kept], kernel.of(kept), tolerance=1e-10)
    guess = kernel.left_out(whole.duals, [2, 5, 7])[kept]
    without = fit(fewer, targets[kept], kernel.of(kept), start=guess, tolerance=1e-10)
    assert norm(minus(without.change, anew.change)) < 1e-6 * norm(minus(whole.change, anew.change))

    start = torch.zeros_like(whole.duals)
    start[kept] = anew.duals
    added = fit(tangent, targets, kernel, start=start, tolerance=1e-10)
    torch.testing.assert_close(flat(added.change), flat(whole.change), atol=1e-7, rtol=1e-6)


def test_a_network_moved_by_a_small_change_does_as_its_tangent_says(tangent: Tangent) -> None:
    change = {name: 1e-4 * torch.randn_like(value) for name, value in tangent.weights.items()}
    predicted = tangent.predictions(change)
    net = copy.deepcopy(tangent.net)
    move(net, change)
    with torch.no_grad():
        gap = (net(tangent.images) - predicted).norm() / (predicted - tangent.outputs).norm()
    assert float(gap) < 1e-2


def test_the_last_layer_alone_moves_exactly_as_its_tangent_says(
    tangent: Tangent, targets: Tensor
) -> None:
    last = Tangent(tangent.net, tangent.images, part="4.")
    found = fit(last, targets, Kernel(averaged_kernel(last, seed=0), D, N, 0.5), tolerance=1e-10)
    assert set(found.change) == {"4.weight", "4.bias"}
    assert found.steps <= 2  # the mean of the blocks is every block
    net = copy.deepcopy(tangent.net)
    move(net, found.change)
    with torch.no_grad():
        torch.testing.assert_close(net(tangent.images), last.predictions(found.change))
    assert torch.equal(net[0].weight, tangent.net[0].weight)


def test_an_optimum_that_is_not_found_is_refused(
    tangent: Tangent, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "MAX_STEPS", 1)
    none = Kernel(torch.zeros(N, N, dtype=torch.double), D, N, 1e-6)
    with pytest.raises(KinspaceError, match="stronger decay"):
        fit(tangent, targets, none)
