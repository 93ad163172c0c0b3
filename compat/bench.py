"""What the artifacts of a family are measured against: the cloud model's gallery and answers."""

from dataclasses import dataclass

import numpy as np

from compat.calibration import Calibration, LogOdds, calibration, log_odds
from compat.flips import count_flips
from compat.overlap import TopItems
from compat.preprocess import Floats
from compat.report import Acceptance, Differences, FlipExample, Flips, Resolvable, Retrieval
from compat.retrieval import RetrievalPerQuery
from compat.score_histogram import ScoreHistogram, score_histogram
from compat.scores import Relevance
from compat.statistics import (
    mean_interval,
    paired_difference_interval,
    smallest_resolvable_difference,
)
from compat.survey import Survey, survey
from compat.thresholds import AcceptRates, threshold_at_far

FAR = 1e-3  # of the threshold whose stability is measured
FLIP_EXAMPLES, FLIP_HITS = 6, 3
MIN_FALSE_ACCEPTS = 10  # below, a threshold at `FAR` would hang on a handful of pairs


@dataclass(frozen=True)
class Bench:
    """What every artifact of a family is measured against."""

    relevance: Relevance
    classes: tuple[str, ...]  # (Q,) label of each query: what intervals resample whole
    gallery: Floats  # (G, D) by the cloud model
    paragon: RetrievalPerQuery  # M(g, g)
    top_ten: TopItems  # of the cloud model's own queries
    macs: int  # of the cloud model
    threshold: AcceptRates | None  # chosen on the paragon
    scores: ScoreHistogram  # of the paragon
    odds: LogOdds | None  # of the paragon

    @classmethod
    def of(
        cls,
        query: Floats,
        gallery: Floats,
        relevance: Relevance,
        *,
        classes: tuple[str, ...],
        macs: int,
    ) -> "Bench":
        """From the cloud model's own embeddings: (Q, D), (G, D)."""
        threshold = _threshold(query, gallery, relevance)
        paragon = survey(query, gallery, relevance, threshold=threshold)
        return cls(
            relevance=relevance,
            classes=classes,
            gallery=gallery,
            paragon=paragon.retrieval,
            top_ten=paragon.top,
            macs=macs,
            threshold=paragon.accepted,
            scores=score_histogram(query, gallery, relevance),
            odds=log_odds(query, gallery, relevance),
        )

    def survey(self, query: Floats) -> Survey:
        """A member's queries in the cloud's gallery: M(q, g), its top ten and accept rates."""
        threshold = self.threshold.threshold if self.threshold else None
        return survey(query, self.gallery, self.relevance, threshold=threshold)

    def calibration(self, query: Floats) -> Calibration | None:
        """What brings a member's scores onto the paragon's: (Q, D)."""
        return calibration(log_odds(query, self.gallery, self.relevance), self.odds)

    def retrieval(self, tested: RetrievalPerQuery) -> Retrieval:
        return Retrieval.model_validate(
            {
                "hit_rate@1": mean_interval(tested.hit_rate_at_1, self.classes),
                "hit_rate@10": mean_interval(tested.hit_rate_at_10, self.classes),
                "map": mean_interval(tested.average_precision, self.classes),
                "recall@10": mean_interval(tested.recall_at_10, self.classes),
                "r_precision": mean_interval(tested.r_precision, self.classes),
                "map@r": mean_interval(tested.average_precision_at_r, self.classes),
            }
        )

    def differences(self, a: RetrievalPerQuery, b: RetrievalPerQuery) -> Differences:
        """a - b, query by query."""
        classes = self.classes
        return Differences.model_validate(
            {
                "hit_rate@1": paired_difference_interval(a.hit_rate_at_1, b.hit_rate_at_1, classes),
                "hit_rate@10": paired_difference_interval(
                    a.hit_rate_at_10, b.hit_rate_at_10, classes
                ),
                "map": paired_difference_interval(
                    a.average_precision, b.average_precision, classes
                ),
            }
        )

    def resolvable(self, tested: RetrievalPerQuery) -> Resolvable:
        """Of the differences with the paragon."""
        best = self.paragon
        pairs = {
            "hit_rate@1": (tested.hit_rate_at_1, best.hit_rate_at_1),
            "hit_rate@10": (tested.hit_rate_at_10, best.hit_rate_at_10),
            "map": (tested.average_precision, best.average_precision),
        }
        return Resolvable.model_validate(
            {
                name: smallest_resolvable_difference(a, b, self.classes)
                for name, (a, b) in pairs.items()
            }
        )

    def acceptance(self, rates: AcceptRates | None) -> Acceptance | None:
        """What the paragon's threshold does to a query model with these ``rates`` at it."""
        if self.threshold is None or rates is None:
            return None
        return Acceptance(
            threshold=self.threshold.threshold,
            paragon_far=self.threshold.far,
            paragon_tar=self.threshold.tar,
            far=rates.far,
            tar=rates.tar,
        )

    def flips(self, cross_test: RetrievalPerQuery, top: TopItems) -> Flips:
        """Against the paragon, at rank 1; ``top`` is what the member finds, for examples."""
        counts = count_flips(self.paragon.hit_rate_at_1, cross_test.hit_rate_at_1)
        flipped = np.flatnonzero(counts.negative_per_query == 1)
        chosen = np.linspace(0, len(flipped) - 1, min(len(flipped), FLIP_EXAMPLES)).astype(int)
        return Flips(
            flips=counts.negative,
            positive_flips=counts.positive,
            negative_flip_rate=mean_interval(counts.negative_per_query, self.classes),
            relative_nfr=counts.relative_nfr,
            examples=tuple(
                FlipExample(query=row, cloud=_best(self.top_ten, row), member=_best(top, row))
                for row in map(int, flipped[chosen])
            ),
        )


def _best(top: TopItems, query: int) -> tuple[int, ...]:
    """The first gallery rows of one query."""
    return tuple(int(row) for row in top.rows[query, :FLIP_HITS] if row >= 0)


def _threshold(query: Floats, gallery: Floats, relevance: Relevance) -> float | None:
    """The paragon's own, at `FAR`; None on a set that has too few impostors to show it."""
    if len(query) * len(gallery) * FAR < MIN_FALSE_ACCEPTS:
        return None
    return threshold_at_far(query, gallery, relevance, FAR)
