"""What changed between two reports, artifact by artifact: values in, values out. Pure.

Reports carry no answers query by query, so a change of an estimate cannot be paired: it counts as
beyond the interval when each value lies outside the other's 95% interval. Numbers without an
interval (bytes, MACs, parity) count when they differ; milliseconds when one median lies above the
other's 95th percentile. What was measured on other images is not compared.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from compat.report import ArtifactEvidence, ArtifactTiming, Report, UnmeasuredArtifact
from compat.report_parts import Estimate, Part
from compat.rules import measures_of
from compat.wire import canonical_json

Judged = ArtifactEvidence | UnmeasuredArtifact
_OF_ANY_IMAGES = ("size_bytes", "macs", "params", "amortised_macs")  # of the file, not of photos
_OF_ONE_SPACE = ("acceptance.", "embedding_error.")  # a cosine of another space is another unit
_UNINTERESTING = (  # they speak of the test, or of a third release, not of the model
    "resolvable.",
    "cross_above_self_p",
    "previous.",
)
_LOWER_IS_BETTER = (
    *_OF_ANY_IMAGES,
    "flips.flips",
    "flips.negative_flip_rate",
    "flips.relative_nfr",
    "acceptance.far",
    "embedding_error.",
    "timing.",
)
_NEUTRAL = ("self_test.", "cross_minus_self.", "acceptance.threshold", "acceptance.paragon_")


class MeasureChange(Part):
    """One number of one artifact that is not what it was."""

    measure: str  # its place in the report, e.g. cross_test.hit_rate@10
    before: float
    after: float
    before_interval: tuple[float, float] | None  # 95%; None: a number without an interval
    after_interval: tuple[float, float] | None
    is_better: bool | None  # None: neither way is better


class RuleChange(Part):
    """A rule whose outcome is not what it was."""

    rule: str
    before: str  # a status, or "absent"
    after: str
    words: str  # of the later outcome, with its numbers; of the earlier when the rule is gone


class ArtifactChange(Part):
    """One artifact of both reports; all that follows is empty when nothing changed."""

    label: str
    file_changed: bool
    before: str  # admitted, refused or not measured
    after: str
    rules: tuple[RuleChange, ...]
    measures: tuple[MeasureChange, ...]

    @property
    def is_changed(self) -> bool:
        return bool(self.file_changed or self.before != self.after or self.rules or self.measures)


class Presence(Part):
    """An artifact that only one of the reports has."""

    label: str
    verdict: str


class ReportDiff(Part):
    """B against A; ``before`` is A."""

    family: tuple[str, str]
    space: tuple[str, str]
    dataset: tuple[str, str]  # sha256 of the data set and the split
    same_images: bool
    same_space: bool
    same_cloud: bool
    same_policy: bool
    same_machine: bool  # milliseconds of two machines are not compared
    paragon: tuple[MeasureChange, ...]
    artifacts: tuple[ArtifactChange, ...]
    added: tuple[Presence, ...]
    removed: tuple[Presence, ...]

    @property
    def is_changed(self) -> bool:
        return bool(
            self.added
            or self.removed
            or self.paragon
            or any(each.is_changed for each in self.artifacts)
            or not (self.same_images and self.same_space and self.same_cloud and self.same_policy)
        )


def diff_reports(before: Report, after: Report) -> ReportDiff:
    """Everything that differs and can be compared; artifacts are matched by their label."""
    old, new = _by_label(before), _by_label(after)
    same_images = _dataset(before) == _dataset(after)
    same_space = before.space.id == after.space.id
    same_machine = before.timing.machine == after.timing.machine
    artifacts = [
        _artifact_change(
            old[label],
            new[label],
            _timings(before, after, old[label], new[label]) if same_machine else None,
            same_images=same_images,
            same_space=same_space,
        )
        for label in old
        if label in new
    ]
    paragon: tuple[MeasureChange, ...] = ()
    if same_images:
        paragon = tuple(_changes(_measures(before.cloud, "cloud"), _measures(after.cloud, "cloud")))
    return ReportDiff(
        family=(before.family, after.family),
        space=(before.space.id, after.space.id),
        dataset=(_dataset(before), _dataset(after)),
        same_images=same_images,
        same_space=same_space,
        same_cloud=before.cloud.digest == after.cloud.digest,
        same_policy=_bytes(before.policy) == _bytes(after.policy),
        same_machine=same_machine,
        paragon=paragon,
        artifacts=tuple(artifacts),
        added=tuple(_presence(each) for label, each in new.items() if label not in old),
        removed=tuple(_presence(each) for label, each in old.items() if label not in new),
    )


def _artifact_change(
    old: Judged,
    new: Judged,
    timings: tuple[ArtifactTiming, ArtifactTiming] | None,
    *,
    same_images: bool,
    same_space: bool,
) -> ArtifactChange:
    measures = [
        change
        for change in _changes(_measures(old), _measures(new))
        if (same_images or change.measure.startswith(_OF_ANY_IMAGES))
        and (same_space or not change.measure.startswith(_OF_ONE_SPACE))
    ]
    if timings:
        measures += _timing_changes(*timings)
    return ArtifactChange(
        label=old.label,
        file_changed=old.digest != new.digest,
        before=_verdict(old),
        after=_verdict(new),
        rules=tuple(_rule_changes(old, new)),
        measures=tuple(measures),
    )


def _changes(
    old: Mapping[str, Estimate | float], new: Mapping[str, Estimate | float]
) -> Iterator[MeasureChange]:
    for place, a in old.items():
        b = new.get(place)
        if b is None or not _is_beyond(a, b):
            continue
        value, later = _value(a), _value(b)
        yield MeasureChange(
            measure=place,
            before=value,
            after=later,
            before_interval=_interval(a),
            after_interval=_interval(b),
            is_better=_is_better(place, value, later),
        )


def _is_beyond(a: Estimate | float, b: Estimate | float) -> bool:
    if isinstance(a, Estimate) and isinstance(b, Estimate):
        return not (a.low <= b.value <= a.high or b.low <= a.value <= b.high)
    return not math.isclose(_value(a), _value(b), rel_tol=1e-9, abs_tol=1e-12)


def _is_better(place: str, before: float, after: float) -> bool | None:
    if place.startswith(_NEUTRAL) or place == "flips.positive_flips":
        return None
    return after < before if place.startswith(_LOWER_IS_BETTER) else after > before


def _rule_changes(old: Judged, new: Judged) -> Iterator[RuleChange]:
    """Per rule the worst outcome counts: a rule on every part of the test set has many."""
    earlier, later = _outcomes(old), _outcomes(new)
    for rule in [*earlier, *(rule for rule in later if rule not in earlier)]:
        before, words_before = earlier.get(rule, ("absent", ""))
        after, words_after = later.get(rule, ("absent", ""))
        if before != after:
            words = words_after if rule in later else words_before
            yield RuleChange(rule=rule, before=before, after=after, words=words)


def _outcomes(judged: Judged) -> dict[str, tuple[str, str]]:
    badness = ("passed", "overridden", "undecided", "failed")
    found: dict[str, tuple[str, str]] = {}
    for each in sorted(judged.verdict.outcomes, key=lambda each: badness.index(each.status)):
        found[each.rule] = (each.status, each.words)
    return found


def _timing_changes(old: ArtifactTiming, new: ArtifactTiming) -> Iterator[MeasureChange]:
    slower = new.latency_ms_p50 > old.latency_ms_p95
    if slower or old.latency_ms_p50 > new.latency_ms_p95:
        yield MeasureChange(
            measure="timing.latency_ms_p50",
            before=old.latency_ms_p50,
            after=new.latency_ms_p50,
            before_interval=None,
            after_interval=None,
            is_better=not slower,
        )


def _timings(
    before: Report, after: Report, old: Judged, new: Judged
) -> tuple[ArtifactTiming, ArtifactTiming] | None:
    a, b = before.timing.of(old.digest), after.timing.of(new.digest)
    return (a, b) if a and b else None


def _measures(part: Part, prefix: str = "") -> dict[str, Estimate | float]:
    return {
        place: number
        for place, number in measures_of(part, prefix)
        if not place.startswith(_UNINTERESTING)
    }


def _by_label(report: Report) -> dict[str, Judged]:
    judged: Sequence[Judged] = (*report.artifacts, *report.unmeasured)
    return {each.label: each for each in judged}


def _presence(judged: Judged) -> Presence:
    return Presence(label=judged.label, verdict=_verdict(judged))


def _verdict(judged: Judged) -> str:
    if isinstance(judged, UnmeasuredArtifact):
        return "not measured"
    return "admitted" if judged.verdict.admitted else "refused"


def _dataset(report: Report) -> str:
    return f"{report.evidence.dataset_digest} {report.evidence.split}"


def _bytes(part: Part) -> bytes:
    return canonical_json(part.model_dump(mode="json"))


def _value(number: Estimate | float) -> float:
    return number.value if isinstance(number, Estimate) else number


def _interval(number: Estimate | float) -> tuple[float, float] | None:
    return (number.low, number.high) if isinstance(number, Estimate) else None
