"""The rules of the gate: what an artifact's evidence must show before it may be published.

Four built-in rules, always there, and any number of a team's own in a strict TOML
(docs/policy.md). A team's rule speaks of one measure of the report and of its interval: it passes
when the whole 95% interval does, fails when none of it does, and is undecided where the test set
cannot tell. Undecided does not pass. A rule that does not pass may be overridden by name, with a
reason and a signer that the report shows.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from compat.errors import ConfigError
from compat.files import read_bounded
from compat.manifest import Precision, Runtime
from compat.report_parts import Part
from compat.space import Name

MAX_POLICY_BYTES = 2**20
BUILT_IN = ("compatibility", "near-paragon", "parity", "no-part-lost")
_WORST: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999}
_MEAN: dict[Precision, float] = {"int8": 0.98}
RuleName = Name
Status = Literal["passed", "failed", "undecided", "overridden"]


class Rule(Part):
    """One measure against one bound, for the artifacts that it selects."""

    name: RuleName
    measure: str  # its place in the report, e.g. cross_minus_paragon.hit_rate@10
    member: Name | None = None
    runtime: Runtime | None = None
    precision: Precision | None = None
    slice: str | None = None  # column=value, as the report names it; "*": every slice
    min: float | None = None
    max: float | None = None
    non_inferior_by: float | None = Field(default=None, ge=0)  # of a difference: at most this lost

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [self.min, self.max, self.non_inferior_by]
        if sum(bound is not None for bound in given) != 1:
            raise ValueError("give exactly one of min, max and non_inferior_by")
        if self.name in BUILT_IN:
            raise ValueError(f"{self.name} is a built-in rule: choose another name")
        return self

    def selects(self, *, member: str, runtime: str, precision: str) -> bool:
        """Whether the rule speaks of that artifact."""
        wanted = (self.member, self.runtime, self.precision)
        return all(
            one in (None, other)
            for one, other in zip(wanted, (member, runtime, precision), strict=True)
        )


class Override(Part):
    """Somebody answers for a rule that does not hold; the report shows who and why."""

    rule: str
    reason: str = Field(min_length=10)
    signer: str = Field(min_length=1)


class Policy(Part):
    """The rules of the gate, all of them."""

    min_cross_to_paragon: float = 0.9  # of hit_rate@10
    min_parity_cosine: Mapping[Precision, float] = Field(default=_WORST)  # of the worst image
    min_mean_parity_cosine: Mapping[Precision, float] = Field(default=_MEAN)
    max_part_loss: float = Field(default=0.5, ge=0)  # of hit_rate@10, on any part that decides
    require_compatibility_rule: bool = True
    rules: tuple[Rule, ...] = ()
    overrides: tuple[Override, ...] = ()

    @model_validator(mode="after")
    def _overrides_name_rules(self) -> Self:
        names = [*BUILT_IN, *(rule.name for rule in self.rules)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules {repeated} stand twice: give each rule a name of its own")
        for override in self.overrides:
            if override.rule not in names:
                raise ValueError(f"no rule {override.rule!r} to override; known: {names}")
        return self

    def override_of(self, rule: str) -> Override | None:
        return next((each for each in self.overrides if each.rule == rule), None)


class Outcome(Part):
    """What one rule says of one artifact."""

    rule: str
    status: Status
    words: str  # with its numbers
    override: Override | None = None

    @property
    def admits(self) -> bool:
        return self.status in ("passed", "overridden")


def read_policy(path: Path) -> Policy:
    """Read a policy's TOML: the keys of `Policy`, ``[[rules]]`` and ``[[overrides]]``.

    Raises:
        ConfigError: naming the key, what is wrong with it, and what is known.
    """
    try:
        return Policy.model_validate(tomllib.loads(read_bounded(path, MAX_POLICY_BYTES).decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors()]
        known = ", ".join(Policy.model_fields)
        raise ConfigError(f"{path}: {'; '.join(lines)} (known keys: {known})") from error
