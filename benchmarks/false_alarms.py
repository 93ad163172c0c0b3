"""Does the interval rule cry wolf, and does it find a true loss as often as it announces?

``python -m benchmarks.false_alarms``. A/A: two query models that are equally good and err in
different places, on test sets drawn anew: every difference found is a false alarm, and 5% of the
95% intervals should find one. Drawn embeddings have classes, clouds about centres whose errors
cluster by class. With a finished demo also its real embeddings: test sets of whole classes are
drawn from its test split, whose own difference is then the truth.

Power: the second model loses one point of hit_rate@10 for certain; how often that is found stands
beside what ``smallest_resolvable_difference`` announced for the same test sets.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track
from scipy import stats

from benchmarks.tables import publish_table
from compat.dataset import LabelledImage, read_dataset
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import PerQuery, retrieval_per_query
from compat.scores import relevance
from compat.space import EmbeddingSpace
from compat.statistics import paired_difference_interval, smallest_resolvable_difference
from compat.terminal import STDERR
from registry.candidate import CandidateFolder
from registry.gallery_build import embed_images
from registry.judging import embedder_of
from registry.workspace import Workspace

DIM = 32
QUERIES, ITEMS = 5, 4  # of one class
WITHIN = 1.3  # spread of a class about its centre, per dimension of a centre of unit spread
OWN, CLOSE = 0.2, 0.1  # a model's own error, by class and by query; of two close releases
LOSS = 0.01  # of hit_rate@10
ASKED, MORE = 50, 250  # comparisons
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """hit_rate@10 of two models on the queries of one test set: (Q,), (Q,), (Q,) classes."""

    ours: PerQuery
    others: PerQuery
    classes: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def interval(self) -> Estimate:
        """Of ours - others."""
        return paired_difference_interval(self.ours, self.others, self.classes)

    def announced_power(self, loss: float) -> float:
        """The chance to see ``loss``, as the resolvable difference at 80% power implies."""
        resolved = smallest_resolvable_difference(self.ours, self.others, self.classes, power=0.8)
        two_sided = stats.norm.ppf(1 - ALPHA / 2)
        error = resolved / (two_sided + stats.norm.ppf(0.8))
        return float(stats.norm.cdf(loss / error - two_sided))


def draw(seed: int, classes: int, *, own: float = OWN, loss: float = 0.0) -> Comparison:
    """A test set and two models; the first loses ``loss`` of hit_rate@10, else they are equals."""
    rng = np.random.default_rng((seed, classes))
    centres = rng.normal(size=(classes, DIM))
    query_classes = np.repeat(np.arange(classes), QUERIES)
    gallery_classes = np.repeat(np.arange(classes), ITEMS)
    seen = centres[query_classes] + WITHIN * rng.normal(size=(len(query_classes), DIM))
    gallery = centres[gallery_classes] + WITHIN * rng.normal(size=(len(gallery_classes), DIM))
    both = relevance(query_classes, gallery_classes)
    hits: list[PerQuery] = []
    for _ in range(2):
        error = rng.normal(size=centres.shape)[query_classes] + rng.normal(size=seen.shape)
        query, items = (side.astype(np.float32) for side in (seen + own * error, gallery))
        hits.append(retrieval_per_query(query, items, both).hit_rate_at_10)
    if loss:
        # each found answer is lost with the probability that makes the loss one of `loss`
        hits[0] = hits[0] * (rng.random(len(seen)) >= loss / _population_rate(classes, own))
    return Comparison(hits[0], hits[1], query_classes)


@cache
def _population_rate(classes: int, own: float) -> float:
    """hit_rate@10 over many test sets of that size."""
    drawn = [draw(10**6 + seed, classes, own=own).ours.mean() for seed in range(20)]
    return float(np.mean(drawn))


def rate_row(what: str, found: int, trials: int, expected: float) -> dict[str, object]:
    """A rate with its exact binomial interval beside what it should be."""
    low, high = stats.binomtest(found, trials).proportion_ci(0.95)
    return {
        "comparison": what,
        "found": f"{found} of {trials}",
        "rate": f"{found / trials:.3f}",
        "95% interval of the rate": f"{low:.3f} to {high:.3f}",
        "expected": f"{expected:.3f}",
        "agrees": bool(low <= expected <= high),
    }


def false_alarms(classes: int) -> list[dict[str, object]]:
    """A/A on drawn embeddings: how many intervals leave out 0."""
    alarms = [
        not (each.low <= 0 <= each.high)
        for seed in track(range(ASKED + MORE), "A/A, drawn", transient=True, console=STDERR)
        for each in (draw(seed, classes).interval(),)
    ]
    what = f"A/A, drawn embeddings, {classes} classes, {classes * QUERIES} queries"
    return [
        rate_row(what, sum(alarms[:ASKED]), ASKED, ALPHA),
        rate_row(f"{what}, more of them", sum(alarms), len(alarms), ALPHA),
    ]


def power(classes: int, trials: int) -> dict[str, object]:
    """A true loss of one point: found how often, announced how often."""
    found, announced = 0, []
    for seed in track(range(trials), "true loss", transient=True, console=STDERR):
        compared = draw(seed, classes, own=CLOSE, loss=LOSS)
        found += compared.interval().high < 0
        announced.append(compared.announced_power(LOSS))
    what = f"true loss of 1 point, {classes} classes, {classes * QUERIES} queries"
    return rate_row(what, int(found), trials, float(np.mean(announced)))


def real_alarms(workspace: Path, images: Path) -> list[dict[str, object]]:
    """The demo's fp32 and int8 member on test sets drawn from its test split."""
    whole = _real(workspace, images)
    truth = float(np.mean(whole.ours - whole.others))
    rng = np.random.default_rng(5)
    labels = np.unique(whole.classes)
    rows_of = {label: np.flatnonzero(whole.classes == label) for label in labels}
    alarms = []
    for _ in range(ASKED + MORE):
        picked = [rows_of[label] for label in rng.choice(labels, len(labels))]
        rows = np.concatenate(picked)
        classes = np.repeat(np.arange(len(picked)), [len(each) for each in picked])
        drawn = Comparison(whole.ours[rows], whole.others[rows], classes).interval()
        alarms.append(not (drawn.low <= truth <= drawn.high))
    what = f"same model, fp32 and int8, real embeddings, {len(labels)} classes"
    return [
        rate_row(what, sum(alarms[:ASKED]), ASKED, ALPHA),
        rate_row(f"{what}, more of them", sum(alarms), len(alarms), ALPHA),
    ]


def _real(workspace: Path, images: Path) -> Comparison:
    artifacts, dataset = Workspace(workspace).artifacts, read_dataset(images)
    queries, gallery = dataset.of("test", "query"), dataset.of("test", "gallery")
    member = CandidateFolder(artifacts / "edge-m")
    items = _embedded(CandidateFolder(artifacts / "cloud"), "onnxruntime/fp32", gallery)
    both = relevance([each.label for each in queries], [each.label for each in gallery])
    ours, others = (
        retrieval_per_query(_embedded(member, label, queries), items, both).hit_rate_at_10
        for label in ("litert/int8", "onnxruntime/fp32")
    )
    classes = np.unique([each.label for each in queries], return_inverse=True)[1]
    return Comparison(ours, others, classes.astype(np.int64))


def _embedded(folder: CandidateFolder, label: str, images: tuple[LabelledImage, ...]) -> Floats:
    model = folder.read()
    [artifact] = [each for each in model.artifacts if each.label == label]
    space = EmbeddingSpace(family="planted", generation=1, dim=128)
    return embed_images(embedder_of(folder, model, artifact, space), [each.path for each in images])


def main(
    workspace: Annotated[Path, typer.Option(help="of a finished demo")] = Path("runs/demo"),
    images: Annotated[Path, typer.Option(help="its data set")] = Path("registry/demo_pack"),
    classes: Annotated[int, typer.Option(min=20)] = 120,
    trials: Annotated[int, typer.Option(min=20, help="of the true loss")] = 100,
) -> None:
    """Count false alarms and finds; exit 1 when a rate disagrees with what was announced."""
    rows = false_alarms(classes)
    if (workspace / "artifacts").is_dir():
        rows += real_alarms(workspace, images)
    rows += [power(each, trials) for each in (2 * classes, 4 * classes)]
    publish_table("false_alarms", "False alarms, and true losses found", rows)
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
