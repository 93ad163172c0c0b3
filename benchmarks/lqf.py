"""The LQF table: solving a linearised network against descending, at equal data.

    python -m benchmarks.lqf [--method METHOD]

Two tasks of six classes (`benchmarks.lqf_tasks`) on the starter network kin-s, 24 images a class or
1, 5, 10 of them; some two minutes of one core. Writes benchmarks/results/lqf.json and lqf.md:
error on 240 images of unseen things, leave-one-out influence against retraining, and the distance
of unlearning a class from retraining without it.
"""

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from benchmarks.data.cache import write_atomic
from benchmarks.lqf_tasks import Task, emoji_task, objects_task
from compat.terminal import STDERR
from compat.wire import canonical_json
from server_models.edge_net import SPECS, EdgeNet
from server_models.loop import rate_at
from server_models.lqf.adaptation import unlearning_ratio
from server_models.lqf.fit import Fit, fit, one_hot
from server_models.lqf.kernel import Kernel, kernel_of
from server_models.lqf.tangent import Tangent, Weights, move
from server_models.starters import load_starter

RESULTS = Path(__file__).parent / "results"
SHOTS, FULL = (1, 5, 10), 24
DRAWS = 3  # of the few shots; their errors are averaged
DECAYS = (0.001, 0.01, 0.1, 1.0)  # the least squared leave-one-out error chooses
FROM_HEAD_DECAYS = (0.1, 1.0, 10.0)  # of what the solved head leaves over
CE_DECAY = 1e-4  # of the cross entropy: pull to the first weights, as wide as the paper's
STEPS, BATCH, LEARNING_RATE = 60, 32, 1e-3  # of the non-linear descent, AdamW
REMOVED = 50  # images left out one at a time
METHODS = (
    "non-linear",
    "lqf",
    "lqf, as a network",
    "head only",
    "linear, cross entropy",
    "lqf from the head",
)


def starter(classes: int) -> EdgeNet:
    torch.manual_seed(0)
    net = EdgeNet(SPECS["kin-s"], classes)
    load_starter("kin-s", net)
    return net.eval()


def best_of(kernel: Kernel, residuals: Tensor, decays: tuple[float, ...] = DECAYS) -> Kernel:
    """Of ``decays``, by the exact leave-one-out residuals (PRESS): no image is spent on it."""
    mean = float(kernel.matrix.diagonal().mean())
    tried = [Kernel(kernel.matrix, kernel.outputs, kernel.images, decay * mean) for decay in decays]
    return min(tried, key=lambda k: float(k.left_out_residuals(k.solve(residuals)).square().sum()))


def lqf(net: EdgeNet, images: Tensor, targets: Tensor) -> tuple[Kernel, Fit]:
    tangent = Tangent(net, images)
    kernel = best_of(kernel_of(tangent, decay=1.0), targets - tangent.outputs)
    return kernel, fit(tangent, targets, kernel)


def cross_entropy(kernel: Kernel, first: Tensor, labels: Tensor) -> Tensor:
    """Duals (N, C) at the optimum of the linear model's cross entropy, by L-BFGS on its kernel."""
    duals = torch.zeros_like(first, requires_grad=True)
    optimizer = torch.optim.LBFGS([duals], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        moved = (kernel.matrix @ duals.reshape(-1)).reshape(first.shape)
        pull = CE_DECAY / 2 * (duals * moved).sum()
        total = F.cross_entropy(first + moved, labels) * len(labels) + pull
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return duals.detach()


def fine_tuned(net: EdgeNet, images: Tensor, labels: Tensor) -> EdgeNet:
    """Every weight by cross entropy; batch statistics stay, as for the linear model."""
    moved = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(moved.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    draw = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate_at(step, STEPS)
        rows = torch.randperm(len(labels), generator=draw)[:BATCH]
        batch = images[rows].contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(moved(batch), labels[rows]))
        optimizer.step()
    return moved


def head_weights(net: EdgeNet, images: Tensor, targets: Tensor) -> Tensor:
    """Ridge regression on the features, by the same kernel and choice of decay: (F + 1, C)."""
    seen = _features(net, images)
    outputs = targets.shape[1]
    matrix = torch.kron(seen @ seen.T, torch.eye(outputs))  # (N C, N C)
    duals = best_of(Kernel(matrix, outputs, len(images), 0.0), targets).solve(targets)
    return seen.T @ duals


def head_only(net: EdgeNet, images: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """What the solved head says of ``asked``: (Q, C)."""
    return _features(net, asked) @ head_weights(net, images, targets)


def _features(net: EdgeNet, images: Tensor) -> Tensor:
    """(N, F + 1), the last one 1."""
    with torch.no_grad():
        return F.pad(net.features(images), (0, 1), value=1.0)


def with_solved_head(net: EdgeNet, images: Tensor, targets: Tensor) -> EdgeNet:
    """The network to linearise at: a random head spoils the tangent of what lies below it.

    Solve the head first, then the rest from there (arXiv:2202.10054).
    """
    begun = copy.deepcopy(net)
    weights = head_weights(net, images, targets)
    with torch.no_grad():
        begun.embed.weight.copy_(weights[:-1].T)
        begun.embed.bias.copy_(weights[-1])
    return begun


def from_the_head(net: EdgeNet, images: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """LQF from the solved head: (Q, C). A strong pull leaves the head as it is."""
    begun = with_solved_head(net, images, targets)
    tangent = Tangent(begun, images)
    kernel = kernel_of(tangent, decay=1.0)
    chosen = best_of(kernel, targets - tangent.outputs, FROM_HEAD_DECAYS)
    return Tangent(begun, asked).predictions(fit(tangent, targets, chosen).change)


def errors(
    task: Task, images: Tensor, labels: Tensor, methods: Sequence[str] = METHODS
) -> dict[str, float]:
    """Share of the test images that each method gets wrong."""
    net, targets, asked = starter(task.classes), one_hot(labels, task.classes), task.test_images
    train, test = Tangent(net, images), Tangent(net, asked)
    solved = cache(lambda: lqf(net, images, targets))

    def as_a_network() -> Tensor:
        network = copy.deepcopy(net)
        move(network, solved()[1].change)
        return Tangent(network, asked).outputs

    said: dict[str, Callable[[], Tensor]] = {
        "non-linear": lambda: Tangent(fine_tuned(net, images, labels), asked).outputs,
        "lqf": lambda: test.predictions(solved()[1].change),
        "lqf, as a network": as_a_network,
        "head only": lambda: head_only(net, images, targets, asked),
        "linear, cross entropy": lambda: test.predictions(
            train.pull(cross_entropy(solved()[0], train.outputs, labels))
        ),
        "lqf from the head": lambda: from_the_head(net, images, targets, asked),
    }
    return {
        method: float((said[method]().argmax(1) != task.test_labels).double().mean())
        for method in methods
    }


def rows_of(tasks: list[Task], methods: Sequence[str] = METHODS) -> Iterator[dict[str, object]]:
    for task in tasks:
        for shots in (*SHOTS, FULL):
            draws = range(DRAWS if shots < FULL else 1)
            title = f"{task.name}, {shots} shots"
            found = [
                errors(task, *task.shots(shots, draw=draw), methods)
                for draw in track(draws, title, transient=True, console=STDERR)
            ]
            for method in methods:
                error = statistics.mean(each[method] for each in found)
                row = {"task": task.name, "shots": "full" if shots == FULL else shots}
                yield {**row, "method": method, "error": round(error, 4)}


def in_order(rows: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """By task and shots as they come, then by method; a later row replaces an earlier one."""
    by = {(row["task"], row["shots"], row["method"]): row for row in rows}
    places = list(dict.fromkeys((task, shots) for task, shots, _ in by))
    return [by[*place, method] for place in places for method in METHODS if (*place, method) in by]


def left_out(task: Task) -> tuple[float, float]:
    """(influence_correlation, unlearning_ratio) at 10 images a class.

    Influence is the change of the mean squared error on 60 test images when one training image is
    left out: by the closed form from one solution, and by solving for the other images from zero,
    to a tolerance that is measured on the network. Unlearning takes away a class.
    """
    images, labels = task.shots(10, draw=0)
    net, targets = starter(task.classes), one_hot(labels, task.classes)
    tangent = Tangent(net, images)
    kernel, found = lqf(net, images, targets)
    rows = torch.arange(0, len(task.test_labels), 4)
    test = Tangent(net, task.test_images[rows])
    wanted = one_hot(task.test_labels[rows], task.classes)

    def loss(change: Weights) -> float:
        return float((wanted - test.predictions(change)).square().mean())

    whole = loss(found.change)
    said, done = [], []
    for image in track(range(REMOVED), "leave one out", transient=True, console=STDERR):
        said.append(loss(tangent.pull(kernel.left_out(found.duals, [image]))) - whole)
        retrained = _without(net, images, targets, kernel, [image])
        done.append(loss(retrained.change) - whole)
    correlation = float(torch.corrcoef(torch.tensor([said, done]))[0, 1])
    gone = torch.flatten(torch.nonzero(labels == 0)).tolist()
    unlearned = Fit(found.duals, tangent.pull(kernel.left_out(found.duals, gone)), 0, 0.0)
    anew = _without(net, images, targets, kernel, gone)
    return correlation, unlearning_ratio(found, unlearned, anew)


def _without(net: EdgeNet, images: Tensor, targets: Tensor, kernel: Kernel, gone: list[int]) -> Fit:
    """The optimum for the other images, from zero, found by the network's own products.

    The preconditioner knows nothing of the images that are left out, nor of their kernel.
    """
    kept = [row for row in range(len(images)) if row not in gone]
    return fit(Tangent(net, images[kept]), targets[kept], kernel.of(kept))


def relative_increase(rows: list[dict[str, object]], method: str) -> float:
    """Median over tasks and shots of error / non-linear error - 1."""
    by = {(row["task"], row["shots"], row["method"]): float(str(row["error"])) for row in rows}
    pairs = [key[:2] for key in by if key[2] == method]
    return statistics.median(by[*pair, method] / by[*pair, "non-linear"] - 1 for pair in pairs)


def table_of(rows: list[dict[str, object]], correlation: float, ratio: float) -> str:
    """Markdown; percent lives here."""
    lines = [
        "| task | images a class | " + " | ".join(METHODS) + " |",
        "|---" * (2 + len(METHODS)) + "|",
    ]
    for start in range(0, len(rows), len(METHODS)):
        group = rows[start : start + len(METHODS)]
        cells = " | ".join(f"{100 * float(str(row['error'])):.1f}" for row in group)
        lines.append(f"| {group[0]['task']} | {group[0]['shots']} | {cells} |")
    above = "; ".join(f"{m} {100 * relative_increase(rows, m):+.0f}%" for m in METHODS[1:])
    return "\n".join((
        *lines, "",
        "Error in percent on 240 images of unseen things, few shots averaged over "
        f"{DRAWS} draws, full = {FULL} images a class.",
        f"Median relative error increase over non-linear fine-tuning: {above}.",
        f"Influence against retraining, {REMOVED} images: correlation {correlation:.4f}.",
        f"Unlearning a class, distance to retraining over the original's: {ratio:.1e}.", "",
    ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", choices=METHODS, help="measure it alone, keep the other rows")
    method = parser.parse_args().method
    tasks = [objects_task(), emoji_task()]
    if method:
        kept = json.loads((RESULTS / "lqf.json").read_text())
        correlation, ratio = kept["influence_correlation"], kept["unlearning_ratio"]
        rows = in_order([*kept["rows"], *rows_of(tasks, [method])])
    else:
        rows = list(rows_of(tasks))
        correlation, ratio = left_out(tasks[0])
    found = {"rows": rows, "influence_correlation": correlation, "unlearning_ratio": ratio}
    table = table_of(rows, correlation, ratio)
    write_atomic(RESULTS / "lqf.json", canonical_json(found))
    write_atomic(RESULTS / "lqf.md", table.encode())
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
