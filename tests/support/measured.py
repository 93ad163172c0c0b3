"""What a report says of an artifact that was found good: for tests of what comes after.

The numbers are all the same; only digest, sizes and names tell one artifact from another.
"""

from compat.manifest import Artifact
from compat.report import (
    ArtifactEvidence,
    Differences,
    EmbeddingError,
    Flips,
    Parity,
    Resolvable,
    Retrieval,
    Verdict,
)
from compat.report_parts import Estimate

SOME = Estimate(value=0.9, low=0.8, high=1.0, counted=10, skipped=0)
RETRIEVAL = Retrieval(
    hit_rate_at_1=SOME,
    hit_rate_at_10=SOME,
    map=SOME,
    recall_at_10=SOME,
    r_precision=SOME,
    map_at_r=SOME,
)
DIFFERENCES = Differences(hit_rate_at_1=SOME, hit_rate_at_10=SOME, map=SOME)


def measured(
    artifact: Artifact, member: str, *, macs: int = 9, reasons: tuple[str, ...] = ()
) -> ArtifactEvidence:
    """Admitted, unless there are ``reasons`` against it; as many parameters as MACs."""
    return ArtifactEvidence(
        member=member,
        runtime=artifact.runtime,
        precision=artifact.precision,
        digest=artifact.digest,
        size_bytes=artifact.size_bytes,
        macs=macs,
        params=macs,
        parity=Parity(cosine_min=1, cosine_mean=1, centred_cosine_mean=1),
        self_test=RETRIEVAL,
        cross_test=RETRIEVAL,
        cross_minus_self=DIFFERENCES,
        cross_minus_paragon=DIFFERENCES,
        overlap_at_10=SOME,
        rank_biased_overlap=SOME,
        flips=Flips(flips=0, positive_flips=0, negative_flip_rate=SOME, relative_nfr=None),
        acceptance=None,
        embedding_error=EmbeddingError(margin_normalised=SOME, centred=SOME),
        resolvable=Resolvable(hit_rate_at_1=0.01, hit_rate_at_10=0.01, map=0.01),
        cross_above_self_p=0.01,
        amortised_macs=1e6,
        verdict=Verdict(compatible=not reasons, admitted=not reasons, reasons=reasons),
    )
