"""A comparison of two reports in words, for a person in a terminal: what changed, what is new."""

from collections.abc import Iterator

from compat.report_diff import ArtifactChange, MeasureChange, ReportDiff

_FRACTIONS = ("cross_", "self_test.", "cloud.paragon.", "overlap", "rank_biased", "flips.negative")


def diff_words(diff: ReportDiff) -> str:
    """The whole comparison; the same diff gives the same words."""
    lines = [f"{diff.family[0]} {diff.space[0]} -> {diff.family[1]} {diff.space[1]}"]
    lines += _what_is_not_compared(diff)
    if not diff.is_changed:
        return "\n".join([*lines, "nothing changed beyond the intervals"])
    lines += [f"paragon: {_measure(each)}" for each in diff.paragon]
    for change in diff.artifacts:
        if change.is_changed:
            lines += _artifact(change)
    if unchanged := [each.label for each in diff.artifacts if not each.is_changed]:
        lines.append(f"unchanged: {', '.join(unchanged)}")
    lines += [f"new: {each.label}, {each.verdict}" for each in diff.added]
    lines += [f"gone: {each.label}, was {each.verdict}" for each in diff.removed]
    return "\n".join(lines)


def _what_is_not_compared(diff: ReportDiff) -> Iterator[str]:
    if not diff.same_images:
        yield (
            f"measured on other images ({diff.dataset[0][:12]} -> {diff.dataset[1][:12]}): "
            "accuracy is not compared, verdicts stand for their own images"
        )
    if not diff.same_space:
        yield "another embedding space: galleries are embedded anew, cosines are not compared"
    if not diff.same_cloud:
        yield "another cloud model: differences with the paragon have another base"
    if not diff.same_policy:
        yield "another policy: a verdict may change though no number did"
    if not diff.same_machine:
        yield "timed on another machine: milliseconds are not compared"


def _artifact(change: ArtifactChange) -> Iterator[str]:
    verdict = (
        change.after if change.before == change.after else f"{change.before} -> {change.after}"
    )
    yield f"{change.label}: {verdict}{'' if change.file_changed else ' (the same file)'}"
    for rule in change.rules:
        yield f"  rule {rule.rule}: {rule.before} -> {rule.after}" + (
            f": {rule.words}" if rule.words else ""
        )
    for measure in change.measures:
        yield f"  {_measure(measure)}"


def _measure(change: MeasureChange) -> str:
    mark = {True: " (better)", False: " (worse)", None: ""}[change.is_better]
    before = _number(change, change.before, change.before_interval)
    after = _number(change, change.after, change.after_interval)
    return f"{change.measure} {before} -> {after}{mark}"


def _number(change: MeasureChange, value: float, interval: tuple[float, float] | None) -> str:
    if change.measure.startswith(_FRACTIONS):
        ends = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
        return f"{100 * value:.1f}%{ends}"
    if interval:
        return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
