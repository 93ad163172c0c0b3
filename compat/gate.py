"""Decide whether an artifact may be published: measurements in, a verdict in words out.

Pure: no model, file or clock in here, so a report that arrives from elsewhere can be judged again
and its verdicts compared. In the built-in rules, which are the papers', the point estimate decides
and the interval stands beside it; in a team's own rules the interval decides (docs/adr/0006). A
comparison with NaN is a refusal.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compat.costs import is_compatible
from compat.embedding import unit_rows
from compat.parity import mean_pairwise_cosine
from compat.policy import Outcome, Policy
from compat.report import ArtifactEvidence, ArtifactTiming, Retrieval, Verdict
from compat.rules import apply, apply_to_slices, measures_of
from compat.slices import SliceEvidence

MAX_PAIRWISE_COSINE = 0.9999  # above, all embeddings are one point within the noise of int8
MAX_NORM_ERROR = 1e-3  # of L2 norm 1: an embedder normalises


def judge(
    evidence: ArtifactEvidence,
    paragon: Retrieval,
    policy: Policy,
    *,
    timing: ArtifactTiming | None = None,
    slices: Sequence[SliceEvidence] = (),
) -> Verdict:
    """The verdict on one artifact; whatever verdict ``evidence`` carries is not looked at.

    Raises:
        ConfigError: a rule of the policy names a measure that the report does not have.
    """
    compatible = is_compatible(
        cross_test=evidence.cross_test.map.value, self_test=evidence.self_test.map.value
    )
    built_in = {
        "compatibility": [] if compatible else [_incompatible(evidence)],
        "near-paragon": _too_far_below(paragon, evidence.cross_test, policy),
        "parity": _unlike_training(evidence, policy),
        "no-part-lost": _parts_lost(slices, policy),
    }
    if not policy.require_compatibility_rule:
        del built_in["compatibility"]
    found = [
        Outcome(rule=rule, status="failed" if words else "passed", words="; ".join(words))
        for rule, words in built_in.items()
    ]
    found += _by_own_rules(evidence, policy, timing, slices)
    outcomes = tuple(_overridden(outcome, policy) for outcome in found)
    reasons = tuple(each.words for each in outcomes if not each.admits)
    return Verdict(compatible=compatible, admitted=not reasons, reasons=reasons, outcomes=outcomes)


def _by_own_rules(
    evidence: ArtifactEvidence,
    policy: Policy,
    timing: ArtifactTiming | None,
    slices: Sequence[SliceEvidence],
) -> Iterator[Outcome]:
    """What the team's own rules say of this artifact."""
    mine = [
        rule
        for rule in policy.rules
        if rule.selects(
            member=evidence.member, runtime=evidence.runtime, precision=evidence.precision
        )
    ]
    if not mine:
        return
    measures = dict(measures_of(evidence))
    measures |= dict(measures_of(timing, "timing"))
    for rule in mine:
        if rule.slice is None:
            yield apply(rule, measures)
        else:
            yield from apply_to_slices(rule, slices)


def _parts_lost(slices: Sequence[SliceEvidence], policy: Policy) -> list[str]:
    """Parts of the test set on which the artifact surely fails where the paragon does not."""
    return [
        f"on {each.name} hit_rate@10 is {each.cross_hit_rate_at_10.value:.3f} where the paragon "
        f"has {each.paragon_hit_rate_at_10.value:.3f} ({each.difference.counted} queries, "
        f"difference {each.difference.value:+.3f}, 95% interval {each.difference.low:+.3f} to "
        f"{each.difference.high:+.3f}): that part is lost"
        for each in slices
        if each.is_deciding and each.difference.high < -policy.max_part_loss
    ]


def _overridden(outcome: Outcome, policy: Policy) -> Outcome:
    """A rule that does not pass and for which somebody answers."""
    override = policy.override_of(outcome.rule)
    if outcome.admits or override is None:
        return outcome
    return outcome.model_copy(update={"status": "overridden", "override": override})


def _incompatible(evidence: ArtifactEvidence) -> str:
    """M(q, g) is not above M(q, q) (arXiv:2105.06047): say by how much, and what it means."""
    cross, own = evidence.cross_test.map.value, evidence.self_test.map.value
    gap = evidence.cross_minus_self.map
    meaning = (
        "gallery vectors mean nothing to this model"
        if cross < own / 2
        else "the cloud's gallery serves this model no better than one of its own embeddings"
    )
    return (
        f"cross-test mAP {cross:.3f} is not above self-test mAP {own:.3f} (difference "
        f"{gap.value:+.4f}, 95% interval {gap.low:+.4f} to {gap.high:+.4f}): {meaning}"
    )


def _too_far_below(paragon: Retrieval, cross: Retrieval, policy: Policy) -> list[str]:
    best, found = paragon.hit_rate_at_10.value, cross.hit_rate_at_10.value
    if not best > 0:
        return [f"the paragon's hit_rate@10 is {best:.3f}: the cloud model itself finds nothing"]
    needed = policy.min_cross_to_paragon * best
    if found >= needed:
        return []
    return [
        f"cross-test hit_rate@10 {found:.4f} is below {needed:.4f}, "
        f"{policy.min_cross_to_paragon:g} of the paragon's {best:.4f}: too much is lost on devices"
    ]


def _unlike_training(evidence: ArtifactEvidence, policy: Policy) -> list[str]:
    """Float files compute the same function, so their worst image is bound; int8 ones do not.

    There one odd image says little and the mean is bound: retrieval decides (docs/adr/0006).
    """
    precision, parity = evidence.precision, evidence.parity
    worst = policy.min_parity_cosine.get(precision)
    mean = policy.min_mean_parity_cosine.get(precision)
    if worst is None and mean is None:
        return [f"the policy sets no parity bound for {precision}"]
    bounds = (("at worst", parity.cosine_min, worst), ("in the mean", parity.cosine_mean, mean))
    return [
        f"parity cosine with the trained weights is {found:.4f} {which}, {precision} needs "
        f"{needed:g}: the exported file computes another function"
        for which, found, needed in bounds
        if needed is not None and not found >= needed
    ]


def find_defects(embeddings: npt.NDArray[Any], *, rows: int, dim: int) -> tuple[str, ...]:
    """Why embeddings cannot be measured at all, in words; empty when they can.

    They must be (rows, dim), finite, of L2 norm 1, and not all one point.
    """
    if embeddings.shape != (rows, dim):
        return (f"gives embeddings of shape {embeddings.shape}, the space needs ({rows}, {dim})",)
    if not_finite := int((~np.isfinite(embeddings)).any(axis=1).sum()):
        return (f"{not_finite} of {rows} embeddings are not finite (NaN or infinity)",)
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)  # (N,)
    if (wrong := np.abs(norms - 1) > MAX_NORM_ERROR).any():
        return (
            f"{int(wrong.sum())} of {rows} embeddings are not of L2 norm 1 (norms {norms.min():.4g}"
            f" to {norms.max():.4g}): the embedder must normalise",
        )
    if rows > 1 and (cosine := mean_pairwise_cosine(unit_rows(embeddings, "embeddings"))) > (
        MAX_PAIRWISE_COSINE
    ):
        return (
            f"embeddings are collapsed: mean cosine {cosine:.6f} between different images, so "
            "everything resembles everything",
        )
    return ()
