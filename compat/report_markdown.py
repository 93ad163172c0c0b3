"""The report as Markdown for a pull request: verdict, table, what failed, where it hurts.

Deterministic. Everything that came from outside is escaped, so that no word of a manifest becomes
a heading, a link, a mention or HTML.
"""

import re
from collections.abc import Iterator

from compat.report import ArtifactEvidence, Report
from compat.report_parts import Estimate
from compat.report_words import (
    UNKNOWN,
    cost_words,
    headline,
    interval,
    kib,
    overrides_in,
    percent,
    plain,
    points,
    points_interval,
    update_lines,
    worst_slices,
)

_SIGN = {"pass": "✅", "part": "🟡", "fail": "❌"}
_MARKUP = re.compile(r"[\\`*\[\]<>|~#]|(?<!\w)[_@]|_(?!\w)|(?<=://)|(?<=www)(?=\.)")
_COLUMNS = (
    "artifact",
    "verdict",
    "MACs, cloud ÷ this",
    "KiB",
    "ms p50",
    "hit_rate@10 cross",
    "less paragon, points",
    "mAP cross",
    "negative flips",
)
MAX_SLICES = 5


def render_markdown(report: Report) -> str:
    """The whole summary, ending in a newline."""
    blocks = (
        _head(report),
        _table(report),
        _refusals(report),
        _overrides(report),
        _slices(report),
        _update(report),
        _devices(report),
        _chain(report),
        _foot(report),
    )
    return "\n\n".join("\n".join(lines) for each in blocks if (lines := list(each))) + "\n"


def escaped(words: str) -> str:
    """Words of others on one line, without a meaning in Markdown or HTML."""
    line = " ".join(words.split()).replace("&", "&amp;")
    return _MARKUP.sub(lambda found: f"\\{found[0]}" if found[0] else "\u200b", line)


def _head(report: Report) -> Iterator[str]:
    head = headline(report)
    yield f"## {_SIGN[head.tone]} {head.verdict}: {report.family}, space `{report.space.id}`"
    yield ""
    yield (
        f"**{head.admitted} of {head.artifacts} artifacts can search the gallery of "
        f"{report.cloud.name}.**"
    )
    if head.best:
        yield (
            f"Best member: **{head.best.member}** does "
            f"{cost_words(head.best.macs, report.cloud.macs)} the cloud model at "
            f"{percent(head.best_to_paragon)} of the paragon's hit_rate@10."
        )


def _table(report: Report) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|---|---|{'--:|' * (len(_COLUMNS) - 2)}"
    cloud, best = report.cloud, report.cloud.paragon
    yield (
        f"| **{cloud.name}** | paragon | 1.0× | {kib(cloud.size_bytes)} | "
        f"{_ms(report, cloud.digest)} | {_rate(best.hit_rate_at_10)} | | {_rate(best.map)} | |"
    )
    for each in report.artifacts:
        yield _row(report, each)
    for broken in report.unmeasured:
        yield f"| {broken.label} | ❌ not measured | | {kib(broken.size_bytes)} | | | | | |"


def _row(report: Report, each: ArtifactEvidence) -> str:
    gap = each.cross_minus_paragon.hit_rate_at_10
    cells = (
        each.label,
        "✅ admitted" if each.verdict.admitted else "❌ refused",
        f"{plain(report.cloud.macs / each.macs, 1)}×" if each.macs > 0 else UNKNOWN,
        kib(each.size_bytes),
        _ms(report, each.digest),
        _rate(each.cross_test.hit_rate_at_10),
        f"{points(gap.value)} ({points_interval(gap)})",
        _rate(each.cross_test.map),
        percent(each.flips.negative_flip_rate.value),
    )
    return f"| {' | '.join(cells)} |"


def _refusals(report: Report) -> Iterator[str]:
    for place, each in enumerate(report.refused):
        if not place:
            yield f"### Why {len(report.refused)} refused"
            yield ""
        yield f"- **{each.label}**"
        yield from (f"  - {escaped(reason)}" for reason in each.verdict.reasons)


def _overrides(report: Report) -> Iterator[str]:
    for place, (label, outcome) in enumerate(overrides_in(report)):
        if not place:
            yield "### ⚠️ Overridden rules"
            yield ""
        assert outcome.override is not None  # `overrides_in`
        yield (
            f"- **{outcome.rule}** on {label}: {escaped(outcome.words)}. Overridden by "
            f"{escaped(outcome.override.signer)}: {escaped(outcome.override.reason)}"
        )


def _slices(report: Report) -> Iterator[str]:
    for place, (label, row) in enumerate(worst_slices(report, MAX_SLICES)):
        if not place:
            yield "### Where it hurts, of what was admitted"
            yield ""
        yield (
            f"- {label} on {escaped(row.name)}: hit_rate@10 "
            f"{percent(row.cross_hit_rate_at_10.value)}, paragon "
            f"{percent(row.paragon_hit_rate_at_10.value)} "
            f"({points(row.difference.value)} points, {points_interval(row.difference)}, "
            f"{row.difference.counted} queries)"
        )


def _update(report: Report) -> Iterator[str]:
    for place, line in enumerate(update_lines(report)):
        if not place:
            yield "### Who gets worse by this update"
            yield ""
        yield f"- {escaped(line)}"


def _devices(report: Report) -> Iterator[str]:
    if report.attestations is None:
        return
    yield f"### Measured on devices ({report.attestations.trust})"
    yield ""
    for each in report.attestations.classes:
        state = f"❌ {len(each.failures)} of {each.devices} fail" if each.failures else "✅"
        yield (
            f"- {state} {escaped(each.device_class)}, {each.label}: {each.devices} devices, p50 "
            f"{plain(each.latency_ms_p50)} ms, p95 {plain(each.latency_ms_p95)} ms"
        )


def _chain(report: Report) -> Iterator[str]:
    if report.diagnosis is None:
        return
    yield "### Chain"
    yield ""
    yield (
        f"First difference: {escaped(report.diagnosis.first or 'none')}. "
        f"{escaped(report.diagnosis.suggestion)}"
    )


def _foot(report: Report) -> Iterator[str]:
    evidence = report.evidence
    yield (
        f"{plain(evidence.queries, 0)} queries, {plain(evidence.gallery, 0)} gallery images, "
        f"{plain(evidence.classes, 0)} classes of split {escaped(evidence.split)}, data set "
        f"`{evidence.dataset_digest[:12]}`. Intervals 95%, by class. Milliseconds: "
        f"{escaped(report.timing.machine)}, one thread; everything else is reproducible."
    )


def _rate(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} ({interval(estimate)})"


def _ms(report: Report, digest: str) -> str:
    clock = report.timing.of(digest)
    return plain(clock.latency_ms_p50 if clock else None)
