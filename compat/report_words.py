"""What a report says in words: numbers as a person reads them, and the headline.

Percent lives here and nowhere deeper. A number that was not measured is a dash, never 0.
"""

import math
from dataclasses import dataclass

from compat.policy import Outcome
from compat.previous import UpdateFlips
from compat.report import ArtifactEvidence, Report
from compat.report_parts import Estimate
from compat.slices import SliceEvidence

UNKNOWN = "–"
SURE = 0.05  # adjusted p-value below which a part is said to lose
_MINUS = "\N{MINUS SIGN}"


def percent(fraction: float | None) -> str:
    """0.9312 -> 93.1%."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:.1f}%".replace("-", _MINUS)


def interval(estimate: Estimate) -> str:
    """The 95% interval of a fraction, in percent: 91.0 to 95.3."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return UNKNOWN
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}".replace("-", _MINUS)


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: +1.2."""
    if not math.isfinite(difference):
        return UNKNOWN
    return f"{100 * difference:+.1f}".replace("-", _MINUS)


def points_interval(estimate: Estimate) -> str:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return UNKNOWN
    return f"{points(estimate.low)} to {points(estimate.high)}"


def plain(number: float | None, digits: int = 2) -> str:
    """A number of its own unit: 4.27, thousands apart."""
    if number is None or not math.isfinite(number):
        return UNKNOWN
    return f"{number:,.{digits}f}".replace("-", _MINUS)


def cosine(number: float) -> str:
    """Four digits and never rounded up to 1: 0.99997 is not equality."""
    if not math.isfinite(number):
        return UNKNOWN
    return f"{math.floor(number * 1e4) / 1e4:.4f}".replace("-", _MINUS)


def share(fraction: float | None) -> str:
    """A small fraction with two digits that count: 0.00123 -> 0.12%."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:.2g}%"


def significance(p: float) -> str:
    """A p-value, never shown as 0."""
    return UNKNOWN if not math.isfinite(p) else f"{p:.3f}" if p >= 0.001 else "below 0.001"


def heat(estimate: Estimate) -> str:
    """How dark a cell is, for CSS; light enough that ink on it is readable."""
    return f"{40 * min(1.0, max(0.0, _number(estimate.value))):.0f}%"


def short_number(value: float | None) -> str:
    """Three digits that count, of any size: 0.00012, 3.4e-07."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3g}"


def kib(size_bytes: float) -> str:
    return plain(size_bytes / 1024, 0)


def mib(size_bytes: float) -> str:
    return plain(size_bytes / 2**20, 1)


def mega(count: float) -> str:
    """A count in millions."""
    return plain(count / 1e6, 1 if count >= 1e7 else 2)


def cost_words(macs: int, cloud_macs: int) -> str:
    """How the cost of a member compares with the cloud model's."""
    if macs <= 0:
        return "an unknown share of the MACs of"
    if macs <= cloud_macs:
        return f"{plain(cloud_macs / macs, 1)} times fewer MACs than"
    return f"{plain(macs / cloud_macs, 1)} times the MACs of"


@dataclass(frozen=True)
class Headline:
    """The first thing that a reader should know."""

    verdict: str  # one word
    tone: str  # pass, part or fail: the colour and the sign that go with it
    admitted: int
    artifacts: int
    best: ArtifactEvidence | None
    best_to_paragon: float  # cross-test hit_rate@10 of the best / the paragon's


def headline(report: Report) -> Headline:
    """Count what was admitted and name the best member."""
    admitted, total = len(report.admitted), len(report.artifacts) + len(report.unmeasured)
    verdict, tone = ("Refused", "fail") if not admitted else ("Admitted in part", "part")
    if total and admitted == total:
        verdict, tone = "Admitted", "pass"
    best = best_member(report)
    kept = to_paragon(report, best) if best else math.nan
    return Headline(verdict, tone, admitted, total, best, kept)


def best_member(report: Report) -> ArtifactEvidence | None:
    """The cheapest of what was admitted: all of it is good enough; then what finds most, then size.

    A NaN does not win.
    """
    return min(
        report.admitted,
        key=lambda each: (
            each.macs,
            -_number(each.cross_test.hit_rate_at_10.value),
            each.size_bytes,
            each.label,
        ),
        default=None,
    )


def to_paragon(report: Report, artifact: ArtifactEvidence) -> float:
    """Cross-test hit_rate@10 as a share of the paragon's; NaN when the paragon finds nothing."""
    paragon = report.cloud.paragon.hit_rate_at_10.value
    return artifact.cross_test.hit_rate_at_10.value / paragon if paragon > 0 else math.nan


def refusal_in_words(report: Report) -> str:
    """Why the gate keeps out what it keeps out, artifact by artifact."""
    head = "not every" if report.admitted else "no"
    reasons = [f"{each.label}: {'; '.join(each.verdict.reasons)}" for each in report.refused]
    return "\n  ".join((f"the gate admits {head} artifact:", *reasons))


def overrides_in(report: Report) -> list[tuple[str, Outcome]]:
    """Rules that do not hold and that somebody answers for: label of the artifact, outcome."""
    return [
        (each.label, outcome)
        for each in report.artifacts
        for outcome in each.verdict.outcomes
        if outcome.override is not None
    ]


def worst_slices(report: Report, most: int) -> list[tuple[str, SliceEvidence]]:
    """Where admitted artifacts surely lose against the paragon, worst first: label, part."""
    if report.slices is None:
        return []
    labels = {each.digest: each.label for each in report.admitted}
    lost = [
        row
        for row in report.slices.rows
        if row.artifact in labels
        and row.is_deciding
        and row.difference.high < 0
        and row.p_adjusted < SURE
    ]
    lost.sort(key=lambda row: (row.difference.value, row.name, labels[row.artifact]))
    return [(labels[row.artifact], row) for row in lost[:most]]


def update_lines(report: Report) -> list[str]:
    """Who gets worse by the update, artifact by artifact; empty without a previous release."""
    return [
        f"{each.label}, against the previous release: "
        + "; ".join(_update(name, flips) for name, flips in at)
        for each in report.artifacts
        if each.previous
        for at in [(("rank 1", each.previous.flips_at_1), ("top 10", each.previous.flips_at_10))]
    ]


def _update(where: str, flips: UpdateFlips) -> str:
    nfr = flips.negative_flip_rate
    return (
        f"{where} error {percent(flips.error_before)} -> {percent(flips.error_now)}, "
        f"negative flips {percent(nfr.value)} ({interval(nfr)}), relative "
        f"{percent(flips.relative_nfr)}"
    )


def worst_update_parts(report: Report, most: int) -> list[tuple[str, SliceEvidence]]:
    """Parts of the test set where admitted artifacts surely flip, most first: label, part."""
    labels = {each.digest: each.label for each in report.admitted}
    rows = report.slices.rows if report.slices else ()
    found = [
        (row.previous.negative_flip_rate.value, labels[row.artifact], row)
        for row in rows
        if row.previous
        and row.artifact in labels
        and row.is_deciding
        and row.previous.negative_flip_rate.low > 0
    ]
    found.sort(key=lambda each: (-each[0], each[2].name, each[1]))
    return [(label, row) for _, label, row in found[:most]]


def _number(value: float) -> float:
    return value if math.isfinite(value) else -1.0
