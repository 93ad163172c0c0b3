"""The matrix of an upgrade: every query model against every gallery generation, and the verdict.

Releases stand oldest first; the last one is new. A pair has a criterion that its accuracy has to
exceed: a newer cloud model on older vectors must beat the older one there, M(new, old) > M(old,
old); everything else, a query model on vectors of another model, must beat itself, M(q, q).

A model that was exported is measured file by file, by the embedder that ships: such pairs can be
signed. One that was not is measured as it was trained, and tells whether to go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from compat.backward import average_compatibility, average_precisions, backward
from compat.calibration import Calibration, LogOdds, calibration, log_odds
from compat.errors import UsageError
from compat.manifest import Digest, Precision, Runtime
from compat.preprocess import Floats
from compat.report_parts import Estimate, Part
from compat.retrieval import PerQuery
from compat.scores import Keys, Relevance
from compat.space import Name
from compat.statistics import mean_interval, paired_difference_interval

MAX_UPGRADE_BYTES = 16 * 2**20


class Exported(Part):
    """The file that embedded."""

    digest: Digest
    runtime: Runtime
    precision: Precision


@dataclass(frozen=True)
class Embedded:
    """One model's embeddings of the held-out images, or one exported file's of it."""

    release: str
    name: str
    queries: Floats  # (Q, D)
    gallery: Floats  # (G, D)
    is_cloud: bool  # it makes the gallery of its release
    exported: Exported | None = None  # None: as it was trained

    @property
    def key(self) -> tuple[str, str, str]:
        return self.release, self.name, self.exported.digest if self.exported else ""


class UpgradePair(Part):
    """M(query, gallery) and what it has to exceed; accuracy is mean average precision."""

    query_release: str
    query: str
    gallery_release: str
    cross: Estimate
    criterion: Estimate | None  # what cross has to exceed; None for a cloud model on its own rows
    above: Estimate | None  # cross - criterion, paired
    exported: Exported | None = None  # which file asked; None: the trained model
    gallery_digest: Digest | None = None  # of the file that made the rows
    calibration: Calibration | None = None  # onto the cloud model of the query's own release

    @property
    def label(self) -> str:
        """The query model, and which file of it."""
        file = self.exported
        return f"{self.query} {file.runtime}/{file.precision}" if file else self.query

    @property
    def holds(self) -> bool | None:
        return None if self.above is None else self.above.value > 0


class UpgradeReport(Part):
    """What an upgrade does to everyone who searches."""

    format: int = 1
    family: Name
    version: str
    dataset_digest: str
    split: str
    releases: tuple[str, ...]  # oldest first, the last is new
    pairs: tuple[UpgradePair, ...]
    criterion: bool  # M(new, old) > M(old, old) for the release that it was trained against
    average_compatibility: float  # share of the (newer, older) cloud pairs that hold
    update_gain: Estimate | None  # None: the criterion fails, or nothing to compare with
    unconstrained: Estimate | None  # M(new*, new*), when it was trained
    self_above_unconstrained: Estimate | None  # M(new, new) - M(new*, new*), paired

    @property
    def is_of_files(self) -> bool:
        """Whether the new release was measured by its exported files, so that it can be signed."""
        ours = [each for each in self.pairs if each.query_release == self.version]
        return any(each.exported and each.gallery_release != self.version for each in ours)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Raises UsageError when the bytes are no matrix of an upgrade."""
        try:
            return cls.model_validate_json(blob)
        except ValidationError as error:
            raise UsageError(
                f"not a matrix of an upgrade that this version reads ({error.errors()[0]['msg']}): "
                "run kinspace upgrade again"
            ) from error


def upgrade_report(
    *,
    family: str,
    version: str,
    dataset_digest: str,
    split: str,
    models: Sequence[Embedded],
    unconstrained: Embedded | None,
    relevance: Relevance,
    classes: Keys,
    progress: Callable[[str], None] = lambda _: None,
) -> UpgradeReport:
    """Measure the matrix: ``models`` release by release, oldest first, one cloud model in each.

    Args:
        unconstrained: the new model trained without constraint, for the update gain.
        classes: (Q,) what intervals resample whole.
        progress: told which pair is measured.
    """
    clouds = [model for model in models if model.is_cloud]
    releases = [cloud.release for cloud in clouds]

    def test(query: Embedded, gallery: Embedded) -> PerQuery:
        progress(f"{query.release} {query.name} on {gallery.release}")
        return average_precisions(query.queries, gallery.gallery, relevance)

    own = {m.key: test(m, m) for m in models}
    odds = {(m.key, g.release): _odds(m, g, relevance) for m in models for g in clouds}
    natural = {g.release: odds[g.key, g.release] for g in clouds}
    crosses = {
        (m.key, g.release): own[m.key] if m is g else test(m, g) for m in models for g in clouds
    }
    pairs = []
    for model in models:
        for cloud in clouds:
            cross = crosses[model.key, cloud.release]
            newer = releases.index(model.release) > releases.index(cloud.release)
            judge = cloud if model.is_cloud and newer else model
            criterion = None if model is cloud else own[judge.key]
            scores = calibration(odds[model.key, cloud.release], natural[model.release])
            pairs.append(_pair(model, cloud, cross, criterion, classes, scores))

    free = None if unconstrained is None else test(unconstrained, unconstrained)
    chain = {
        (new.release, old.release): backward(
            crosses[new.key, old.release], own[old.key], free, classes
        )
        for turn, new in enumerate(clouds)
        for old in clouds[:turn]
    }
    last = chain[releases[-1], releases[-2]]
    new = own[clouds[-1].key]
    return UpgradeReport(
        family=family,
        version=version,
        dataset_digest=dataset_digest,
        split=split,
        releases=tuple(releases),
        pairs=tuple(pairs),
        criterion=last.criterion,
        average_compatibility=average_compatibility(list(chain.values())),
        update_gain=last.update_gain,
        unconstrained=None if free is None else mean_interval(free, classes),
        self_above_unconstrained=(
            None if free is None else paired_difference_interval(new, free, classes)
        ),
    )


def _odds(query: Embedded, gallery: Embedded, relevance: Relevance) -> LogOdds | None:
    """Over the dimensions of both."""
    dim = min(query.queries.shape[1], gallery.gallery.shape[1])
    return log_odds(query.queries[:, :dim], gallery.gallery[:, :dim], relevance)


def _pair(
    model: Embedded,
    cloud: Embedded,
    cross: PerQuery,
    criterion: PerQuery | None,
    classes: Keys,
    scores: Calibration | None,
) -> UpgradePair:
    return UpgradePair(
        query_release=model.release,
        query=model.name,
        gallery_release=cloud.release,
        cross=mean_interval(cross, classes),
        criterion=None if criterion is None else mean_interval(criterion, classes),
        above=(
            None if criterion is None else paired_difference_interval(cross, criterion, classes)
        ),
        exported=model.exported,
        gallery_digest=cloud.exported.digest if cloud.exported else None,
        calibration=scores,
    )


def markdown_of(report: UpgradeReport) -> str:
    """For people: percent lives here."""
    old, new = report.releases[-2:]
    lines = [
        f"# Upgrade of {report.family}: {old} to {new}",
        "",
        f"Criterion M({new}, {old}) > M({old}, {old}): "
        + ("holds." if report.criterion else "FAILS."),
        f"Average compatibility over {', '.join(report.releases)}: "
        f"{report.average_compatibility:.2f}.",
    ]
    if report.update_gain is not None:
        lines.append(
            f"Update gain: {report.update_gain.value:.2f} "
            f"({report.update_gain.low:.2f} to {report.update_gain.high:.2f})."
        )
    if report.self_above_unconstrained is not None:
        lines.append(
            f"Self-test above the model without constraint: "
            f"{_points(report.self_above_unconstrained)} points."
        )
    lines += [
        "",
        "| queries by | gallery of | mAP | has to exceed | by (95% interval) | |",
        "|---|---|---|---|---|---|",
    ]
    for pair in report.pairs:
        cells = ["", "", "own rows"]
        if pair.criterion is not None and pair.above is not None:
            verdict = "holds" if pair.holds else "fails"
            cells = [f"{pair.criterion.value:.1%}", _points(pair.above), verdict]
        lines.append(
            f"| {pair.query_release} {pair.label} | {pair.gallery_release} "
            f"| {pair.cross.value:.1%} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _points(estimate: Estimate) -> str:
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
