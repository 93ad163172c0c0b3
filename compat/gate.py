"""Decide whether an artifact may be published: measurements in, a verdict in words out.

Pure: no model, file or clock in here, so a report that arrives from elsewhere can be judged again
and its verdicts compared. The point estimate decides; the interval stands beside it. A comparison
with NaN is a refusal.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from compat.costs import is_compatible
from compat.embedding import unit_rows
from compat.parity import mean_pairwise_cosine
from compat.report import ArtifactEvidence, Policy, Retrieval, Verdict

MAX_PAIRWISE_COSINE = 0.9999  # above, all embeddings are one point within the noise of int8
MAX_NORM_ERROR = 1e-3  # of L2 norm 1: an embedder normalises


def judge(evidence: ArtifactEvidence, paragon: Retrieval, policy: Policy) -> Verdict:
    """The verdict on one artifact; whatever verdict ``evidence`` carries is not looked at."""
    compatible = is_compatible(
        cross_test=evidence.cross_test.map.value, self_test=evidence.self_test.map.value
    )
    reasons = [
        *([] if compatible or not policy.require_compatibility_rule else [_incompatible(evidence)]),
        *_too_far_below(paragon, evidence.cross_test, policy),
        *_unlike_training(evidence, policy),
    ]
    return Verdict(compatible=compatible, admitted=not reasons, reasons=tuple(reasons))


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
        f"cross-test hit_rate@10 {found:.3f} is below {needed:.3f}, "
        f"{policy.min_cross_to_paragon:g} of the paragon's {best:.3f}: too much is lost on devices"
    ]


def _unlike_training(evidence: ArtifactEvidence, policy: Policy) -> list[str]:
    needed = policy.min_parity_cosine.get(evidence.precision)
    if needed is None:
        return [f"the policy sets no parity bound for {evidence.precision}"]
    worst = evidence.parity.cosine_min
    if worst >= needed:
        return []
    return [
        f"parity cosine with the trained weights is {worst:.4f} at worst (mean "
        f"{evidence.parity.cosine_mean:.4f}), {evidence.precision} needs {needed:g}: the exported "
        "file computes another function"
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
