"""Measure a whole family on a held-out split: what a report says comes from here.

``verify`` is handed embedders from above, the very ones that ship, so what is proven is what runs.
Per artifact: parity with the trained weights, self-test M(q, q), cross-test M(q, g), their paired
difference, the paired difference with the paragon M(g, g), overlap with the cloud's own top ten,
flips at rank 1. Intervals resample whole classes. Latency and memory are measured elsewhere.

Two kinds of wrong: evidence that cannot prove anything or a broken cloud model end the
verification; a broken member's artifact is refused in the report and the others are measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from compat.bench import Bench
from compat.costs import amortised_cost
from compat.embedding import Embedder, embed_pixels
from compat.embedding_error import centred_error, margin_normalised_error, margins
from compat.errors import DataError, KinspaceError, RefusedError, UsageError
from compat.evidence import EvidenceSet, Progress, SidePixels, decode_all, silent
from compat.gate import find_defects, judge
from compat.manifest import Precision, Runtime
from compat.overlap import overlap_at_k, rank_biased_overlap
from compat.parity import measure_parity
from compat.policy import Policy
from compat.preprocess import Floats, Pixels
from compat.previous import Answers, against_previous
from compat.report import (
    ArtifactEvidence,
    CloudEvidence,
    EmbeddingError,
    Evidence,
    Report,
    Retrieval,
    Timing,
    UnmeasuredArtifact,
    Verdict,
)
from compat.retrieval import retrieval_per_query
from compat.score_histogram import ScoreHistogram, score_histogram
from compat.slices import (
    QueryColumns,
    SliceEvidence,
    SliceSection,
    query_columns,
    slice_artifact,
)
from compat.space import EmbeddingSpace
from compat.statistics import (
    holm,
    mean_interval,
    paired_permutation_test,
)

_UNJUDGED = Verdict(compatible=False, admitted=False, reasons=("not judged",))


@dataclass(frozen=True)
class Subject:
    """One exported artifact of one model, and the embedder that runs it."""

    name: str  # of the model
    macs: int  # multiply-accumulates for one image
    params: int
    runtime: Runtime
    precision: Precision
    digest: str  # of the artifact
    size_bytes: int
    embedder: Embedder
    reference: Floats | None = None  # (Q, D) queries by the trained fp32 weights; members need it

    @property
    def label(self) -> str:
        return f"{self.name} {self.runtime}/{self.precision}"


class _Measured(NamedTuple):
    """One artifact, not judged yet."""

    evidence: ArtifactEvidence
    slices: tuple[SliceEvidence, ...]
    too_small: int


def verify(
    evidence: EvidenceSet,
    cloud: Subject,
    *,
    members: Sequence[Subject],
    space: EmbeddingSpace,
    policy: Policy,
    timing: Timing,
    previous: Mapping[str, Answers] | None = None,
    progress: Progress = silent,
) -> Report:
    """Measure and judge every artifact of ``members`` against ``cloud``.

    Args:
        members: at least one; each with its ``reference``, (Q, D) in the order of the queries.
        timing: what the caller measured; carried into the report as it is.
        previous: the last release's answers to the same queries by label (`previous_answers`).
        progress: called with what is going on, steps done and steps in all.

    Raises:
        DataError: the evidence proves nothing, or an image cannot be used. Remedy: the message's.
        RefusedError: the cloud model's own embeddings cannot be compared. Remedy: export it again.
        UsageError: no members, or a reference that does not correspond. Remedy: pass it.
    """
    _check_members(evidence, members, space)
    subjects = (cloud, *members)
    pixels = decode_all(evidence, [each.embedder.preprocess for each in subjects], progress)
    bench = _set_up(evidence, cloud, pixels[cloud.embedder.preprocess], space, progress)
    paragon = bench.retrieval(bench.paragon)
    known = query_columns(evidence.queries)
    measured: list[_Measured] = []
    unmeasured: list[UnmeasuredArtifact] = []
    for member in members:
        try:
            found = _measure(
                member,
                pixels[member.embedder.preprocess],
                bench,
                known,
                space,
                progress,
                (previous or {}).get(member.label),
            )
        except KinspaceError as error:
            unmeasured.append(_unmeasured(member, str(error)))
        else:
            measured.append(found)
    slices = SliceSection(
        rows=tuple(row for each in measured for row in each.slices),
        too_small=sum(each.too_small for each in measured),
    )
    judged = []
    for each in _adjusted([each.evidence for each in measured]):
        verdict = judge(
            each,
            paragon,
            policy,
            timing=timing.of(each.digest),
            slices=slices.of(each.digest),
        )
        judged.append(each.model_copy(update={"verdict": verdict}))
    return Report(
        family=space.family,
        space=space,
        evidence=_what_it_was_measured_on(evidence),
        cloud=_cloud_evidence(cloud, paragon, bench.scores),
        artifacts=tuple(judged),
        unmeasured=tuple(unmeasured),
        slices=slices if slices.rows else None,
        policy=policy,
        timing=timing,
    )


def _adjusted(measured: Sequence[ArtifactEvidence]) -> list[ArtifactEvidence]:
    """The same, with p-values that know how many artifacts were tested (Holm)."""
    adjusted = holm([each.cross_above_self_p for each in measured])
    return [
        each.model_copy(update={"cross_above_self_p": p})
        for each, p in zip(measured, adjusted, strict=True)
    ]


def _check_members(
    evidence: EvidenceSet, members: Sequence[Subject], space: EmbeddingSpace
) -> None:
    """Refuse a call that could only fail later, after the long part."""
    if not members:
        raise UsageError("there is nothing to verify: pass at least one member")
    needed = (len(evidence.queries), space.dim)
    for member in members:
        if member.reference is None or member.reference.shape != needed:
            given = "none" if member.reference is None else f"shape {member.reference.shape}"
            raise UsageError(
                f"{member.label} needs reference embeddings of shape {needed}, one for each query "
                f"by the trained weights; given: {given}"
            )


def _set_up(
    evidence: EvidenceSet,
    cloud: Subject,
    pixels: SidePixels,
    space: EmbeddingSpace,
    progress: Progress,
) -> Bench:
    """Embed both sides with the cloud model and measure the paragon M(g, g)."""
    relevance = evidence.relevance()
    if not relevance.relevant.counts.any():
        raise DataError(
            f"no query of split {evidence.split!r} has a relevant gallery image: give queries and "
            "gallery images of the same label"
        )
    query = embed_side(cloud, pixels.queries, "queries", space, progress)
    gallery = embed_side(cloud, pixels.gallery, "gallery", space, progress)
    progress(f"search {cloud.label}", 0, 1)
    bench = Bench.of(query, gallery, relevance, classes=evidence.queries.labels, macs=cloud.macs)
    progress(f"search {cloud.label}", 1, 1)
    return bench


def embed_side(
    subject: Subject, pixels: Pixels, side: str, space: EmbeddingSpace, progress: Progress
) -> Floats:
    """(N, S, S, 3) uint8 -> (N, D) float32, or RefusedError with what is wrong with them."""
    what = f"embed {side} with {subject.label}"
    batches: list[Floats] = []
    done = 0
    for batch in embed_pixels(subject.embedder, pixels):
        batches.append(batch)
        done += len(batch)
        progress(what, min(done, len(pixels)), len(pixels))
    if len({batch.shape[1:] for batch in batches}) != 1:
        raise RefusedError(f"{subject.label}: batches of {side} differ in shape")
    embeddings = np.concatenate(batches)  # (N, D)
    if defects := find_defects(embeddings, rows=len(pixels), dim=space.dim):
        raise RefusedError(f"{subject.label}: {side}: {'; '.join(defects)}")
    return embeddings.astype(np.float32, copy=False)


def _measure(
    member: Subject,
    pixels: SidePixels,
    bench: Bench,
    known: QueryColumns,
    space: EmbeddingSpace,
    progress: Progress,
    before: Answers | None,
) -> _Measured:
    """Everything about one artifact but the verdict."""
    assert member.reference is not None  # `_check_members`
    query = embed_side(member, pixels.queries, "queries", space, progress)
    own_gallery = embed_side(member, pixels.gallery, "gallery", space, progress)
    what = f"search {member.label}"
    progress(what, 0, 2)
    self_test = retrieval_per_query(query, own_gallery, bench.relevance)
    progress(what, 1, 2)
    found = bench.survey(query)
    cross_test, top_ten = found.retrieval, found.top
    progress(what, 2, 2)
    now = Answers(member.digest, cross_test, top_ten)
    margin = margins(member.reference, bench.gallery, bench.relevance)
    error = margin_normalised_error(query, member.reference, margin)
    evidence = ArtifactEvidence.model_validate(
        {
            **_identity(member),
            "parity": measure_parity(query, member.reference),
            "self_test": bench.retrieval(self_test),
            "cross_test": bench.retrieval(cross_test),
            "cross_minus_self": bench.differences(cross_test, self_test),
            "cross_minus_paragon": bench.differences(cross_test, bench.paragon),
            "overlap@10": mean_interval(overlap_at_k(bench.top_ten, top_ten), bench.classes),
            "rank_biased_overlap": mean_interval(
                rank_biased_overlap(bench.top_ten, top_ten), bench.classes
            ),
            "flips": bench.flips(cross_test, top_ten),
            "previous": before and against_previous(before, now, bench.classes),
            "acceptance": bench.acceptance(found.accepted),
            "embedding_error": EmbeddingError(
                margin_normalised=mean_interval(error, bench.classes),
                centred=mean_interval(centred_error(query, member.reference), bench.classes),
            ),
            "resolvable": bench.resolvable(cross_test),
            "cross_above_self_p": paired_permutation_test(
                cross_test.average_precision, self_test.average_precision, bench.classes
            ),
            "amortised_macs": amortised_cost(
                gallery_macs=bench.macs, query_macs=member.macs, queries_per_item=1.0
            ),
            "scores": score_histogram(query, bench.gallery, bench.relevance),
            "calibration": bench.calibration(query),
            "verdict": _UNJUDGED,
        }
    )
    rows, too_small = slice_artifact(
        member.digest,
        cross_test,
        bench.paragon,
        known,
        previous=before.retrieval if before else None,
    )
    return _Measured(evidence, tuple(rows), too_small)


def _identity(member: Subject) -> dict[str, object]:
    return {
        "member": member.name,
        "runtime": member.runtime,
        "precision": member.precision,
        "digest": member.digest,
        "size_bytes": member.size_bytes,
        "macs": member.macs,
        "params": member.params,
    }


def _unmeasured(member: Subject, reason: str) -> UnmeasuredArtifact:
    verdict = Verdict(compatible=False, admitted=False, reasons=(reason,))
    return UnmeasuredArtifact.model_validate({**_identity(member), "verdict": verdict})


def _cloud_evidence(cloud: Subject, paragon: Retrieval, scores: ScoreHistogram) -> CloudEvidence:
    return CloudEvidence(
        name=cloud.name,
        digest=cloud.digest,
        size_bytes=cloud.size_bytes,
        macs=cloud.macs,
        params=cloud.params,
        paragon=paragon,
        scores=scores,
    )


def _what_it_was_measured_on(evidence: EvidenceSet) -> Evidence:
    return Evidence(
        dataset_digest=evidence.dataset_digest,
        split=evidence.split,
        queries=len(evidence.queries),
        gallery=len(evidence.gallery),
        classes=evidence.classes,
    )
