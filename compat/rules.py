"""A team's own rules on any measure of the report: numbers in, outcomes in words out. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from compat.errors import ConfigError
from compat.policy import Outcome, Rule, Status
from compat.report_parts import Estimate
from compat.slices import SliceEvidence

Measures = Mapping[str, Estimate | float]


def measures_of(part: object, prefix: str = "") -> Iterator[tuple[str, Estimate | float]]:
    """Every number of a section by its place: ``cross_test.hit_rate@10``, ``parity.cosine_min``.

    An `Estimate` is one measure with its interval; names are those of the JSON.
    """
    if isinstance(part, Estimate):
        yield prefix, part
    elif isinstance(part, bool):
        return
    elif isinstance(part, int | float):
        yield prefix, float(part)
    elif isinstance(part, BaseModel):
        for field, described in type(part).model_fields.items():
            name = described.alias or field
            place = f"{prefix}.{name}" if prefix else name
            yield from measures_of(getattr(part, field, None), place)


def apply(rule: Rule, measures: Measures, where: str = "") -> Outcome:
    """What ``rule`` says of one artifact, or of one slice of it (``where``).

    Raises:
        ConfigError: the measure does not exist here. Remedy: one of those that the message names.
    """
    found = measures.get(rule.measure)
    if found is None:
        known = ", ".join(sorted(measures))
        cure = " (give what devices run now: kinspace verify --previous)"
        raise ConfigError(
            f"rule {rule.name}: no measure {rule.measure!r}{where}"
            f"{cure if rule.measure.startswith('previous.') else ''}; known: {known}"
        )
    status, words = _decide(rule, found)
    return Outcome(rule=rule.name, status=status, words=f"{rule.measure}{where} {words}")


def apply_to_slices(rule: Rule, slices: Sequence[SliceEvidence]) -> Iterator[Outcome]:
    """What ``rule`` says of each part that it names; ``*`` names all.

    A part too small to decide is undecided when it is named, and passed over by ``*``.

    Raises:
        ConfigError: no part has that name. Remedy: one of those that the message lists.
    """
    named = [each for each in slices if rule.slice in ("*", each.name)]
    if not named:
        known = ", ".join(sorted({each.name for each in slices})) or "none"
        raise ConfigError(f"rule {rule.name}: the test set has no part {rule.slice!r}: {known}")
    for each in named:
        outcome = apply(rule, dict(measures_of(each)), f" on {each.name}")
        if each.is_deciding:
            yield outcome
        elif rule.slice != "*":
            words = f"{outcome.words}: {each.difference.counted} queries are too few to decide"
            yield outcome.model_copy(update={"status": "undecided", "words": words})


def _decide(rule: Rule, found: Estimate | float) -> tuple[Status, str]:
    value, low, high = _interval(found)
    shown = f"{value:.4g}"
    if isinstance(found, Estimate):
        shown += f" (95% interval {low:.4g} to {high:.4g})"
    if rule.max is not None:
        return _status(-high >= -rule.max, low > rule.max), _words(
            shown, "at most", rule.max, found
        )
    if rule.min is not None:
        return _status(low >= rule.min, high < rule.min), _words(shown, "at least", rule.min, found)
    bound = -(rule.non_inferior_by or 0.0)
    return _status(low >= bound, high < bound), _words(shown, "not below", bound, found)


def _status(passes: bool, fails: bool) -> Status:
    """A comparison with NaN is false: it neither passes nor fails, so it does not pass."""
    return "passed" if passes else "failed" if fails else "undecided"


def _words(shown: str, relation: str, bound: float, found: Estimate | float) -> str:
    words = f"is {shown}, must be {relation} {bound:g}"
    if isinstance(found, Estimate):
        half = (found.high - found.low) / 2
        words += f" with its whole interval; {found.counted} queries resolve about {half:.2g}"
    return words


def _interval(found: Estimate | float) -> tuple[float, float, float]:
    if isinstance(found, Estimate):
        return found.value, found.low, found.high
    return found, found, found
