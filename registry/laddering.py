"""Measure and sign the ladder from a foreign new member to the galleries of an older release.

`measure` embeds, fits and measures; `sign` publishes the adapter, the ladder and, in the matrix,
the pair of the adapter and the gallery, in one commit. An adapter is admitted like any other query
model: by an entry of the matrix, under its own digest, so that the search service needs no new
rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compat.adapter import Adapter
from compat.adapter_fit import best_kind, fit_adapter
from compat.calibration import Calibration, calibration, log_odds
from compat.dataset import Dataset, LabelledImage
from compat.embedding import Embedder
from compat.errors import DataError, RefusedError, UsageError
from compat.files import digest_of
from compat.ladder import Ladder, Rung, RungKind, ladder_target
from compat.manifest import Artifact, Blob, Member, ReleaseManifest, blob_target
from compat.matrix import CompatibilityMatrix, Entry, matrix_target
from compat.preprocess import Floats
from compat.report_parts import Estimate
from compat.retrieval import retrieval_per_query
from compat.scores import Relevance, relevance
from compat.statistics import mean_interval
from registry.gallery_build import embed_images
from registry.local_release import LocalRelease
from registry.matrix import stored_matrix
from registry.repository import Repository

MIN_SHARE = 0.9  # of what was found before: a rung below it is no fallback


@dataclass(frozen=True)
class Measured:
    """A ladder that nobody has signed yet, and its adapter."""

    ladder: Ladder
    adapter: Adapter
    scores: Calibration  # of adapted queries, onto the gallery model's own


@dataclass(frozen=True)
class Side:
    """One model of a release with the embedder that ships."""

    release: ReleaseManifest
    name: str
    artifacts: tuple[Artifact, ...]
    embedder: Embedder  # of the first artifact

    @classmethod
    def member(cls, release: LocalRelease, name: str | None) -> "Side":
        """Raises UsageError when the release has no such member."""
        manifest = release.manifest
        found = next((each for each in manifest.members if name in (None, each.name)), None)
        if found is None:
            names = [each.name for each in manifest.members]
            raise UsageError(f"release {manifest.version} has no member {name}, it has {names}")
        artifacts = _reference_first(found)
        return cls(manifest, found.name, artifacts, release.open(found, artifacts[0]))

    @classmethod
    def cloud(cls, release: LocalRelease) -> "Side":
        cloud = release.manifest.cloud
        return cls(release.manifest, cloud.name, cloud.artifacts, release.open_cloud())

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(each.digest for each in self.artifacts)


def measure(
    dataset: Dataset,
    *,
    new: Side,
    own: Side,
    old: Side,
    gallery: Side,
    min_share: float = MIN_SHARE,
) -> Measured:
    """Fit the adapter on the training split; measure every rung on the held-out one.

    Args:
        dataset: of both releases.
        new: the member whose embeddings the gallery does not admit.
        own: the cloud model of its release: onto its scores those of the gallery are brought.
        old: the member that queried the gallery before.
        gallery: the cloud model that made the gallery.
        min_share: a rung must find this share of what ``old`` finds, else it is not admitted.

    Raises:
        UsageError: the two are of one space: the matrix decides there.
        DataError: a split has no images.
    """
    source, target = new.release.space, gallery.release.space
    if source == target:
        raise UsageError(
            f"both releases are of space {source.id}: their pairs stand in the matrix, see "
            "kinspace matrix show"
        )
    train = sorted(dataset.of("train"), key=lambda each: each.label)  # classes stay together
    queries, items = dataset.of("test", "query"), dataset.of("test", "gallery")
    if not (train and queries and items):
        raise DataError("the data set needs training images, test queries and a test gallery")
    pairs = _embed(new, train), _embed(gallery, train)
    adapter = fit_adapter(
        best_kind(*pairs),
        *pairs,
        source=source,
        source_digests=new.digests,
        target=target,
        target_digest=gallery.artifacts[0].digest,
    )
    relevant = relevance([each.label for each in queries], [each.label for each in items])
    rows = _embed(gallery, items)
    asked = {
        "adapter": adapter.apply(_embed(new, queries), artifact_digest=new.digests[0]),
        "dual": _embed(old, queries),
        "cloud": _embed(gallery, queries),
    }
    found = {kind: _map(query, rows, relevant, queries) for kind, query in asked.items()}
    odds = log_odds(asked["cloud"], rows, relevant)
    own_odds = log_odds(_embed(own, queries), _embed(own, items), relevant)
    scores = calibration(odds, own_odds) or Calibration()
    adapted = calibration(log_odds(asked["adapter"], rows, relevant), odds) or Calibration()
    before = found["dual"].value
    blob = adapter.to_bytes()
    made_by: dict[RungKind, tuple[str, ...]] = {
        "adapter": (digest_of(blob),),
        "dual": old.digests,
        "cloud": gallery.digests,
    }
    rungs = tuple(
        Rung(
            kind=kind,
            cross=found[kind].value,
            low=found[kind].low,
            high=found[kind].high,
            admitted=found[kind].value >= min_share * before,
            makes_query=digests,
            adapter=Blob(digest=digests[0], size_bytes=len(blob)) if kind == "adapter" else None,
        )
        for kind, digests in made_by.items()
    )
    ladder = Ladder(
        family=source.family,
        member=new.name,
        artifacts=new.digests,
        source=source,
        target=target,
        gallery_model=gallery.artifacts[0].digest,
        criterion=before,
        queries=found["adapter"].counted,
        dataset_digest=dataset.digest,
        rungs=rungs,
        score_scale=scores.scale,
        score_shift=scores.shift,
    )
    return Measured(ladder, adapter, adapted)


def sign(repository: Repository, measured: Measured, new: Side) -> CompatibilityMatrix:
    """Publish the ladder; the adapter may query the gallery from now on, if it was admitted.

    Raises:
        RefusedError: the family has no matrix that knows the gallery. Remedy: publish its release.
        ConflictError, UsageError, OfflineError, UntrustedError: see `Repository.sign_targets`.
    """
    ladder, blob = measured.ladder, measured.adapter.to_bytes()
    version = repository.version
    before = stored_matrix(repository, ladder.family)
    generation = before.generation_of(ladder.gallery_model)
    if generation is None:
        raise RefusedError(
            f"the matrix of {ladder.family} does not know the gallery of "
            f"{ladder.gallery_model[:12]}: publish its release first"
        )
    document = ladder.to_bytes()
    name = ladder_target(ladder.source, ladder.member, ladder.target.id)
    entry = _entry(measured, new, before, generation, evidence=digest_of(document))
    matrix = before.with_entries([entry])
    repository.sign_targets(
        ladder.family,
        {blob_target(ladder.family, digest_of(blob)): blob},
        moving={name: document, matrix_target(ladder.family): matrix.to_bytes()},
        expected=version,
    )
    return matrix


def _entry(
    measured: Measured,
    new: Side,
    matrix: CompatibilityMatrix,
    generation: str,
    *,
    evidence: str,
) -> Entry:
    """The adapter as a query model of the gallery's own space."""
    ladder = measured.ladder
    [rung] = [each for each in ladder.rungs if each.kind == "adapter"]
    gallery = next(each for each in matrix.entries if each.gallery_generation == generation)
    return Entry(
        member=f"{new.name}-adapted"[:63],
        artifact_digest=rung.makes_query[0],
        runtime=new.artifacts[0].runtime,
        precision=new.artifacts[0].precision,
        space=ladder.target.id,
        gallery_generation=generation,
        gallery_model=gallery.gallery_model,
        gallery_digest=gallery.gallery_digest,
        gallery_space=gallery.gallery_space,
        admitted=rung.admitted,
        cross=rung.cross,
        criterion=ladder.criterion,
        report_digest=evidence,
        score_scale=measured.scores.scale,
        score_shift=measured.scores.shift,
    )


def _reference_first(member: Member) -> tuple[Artifact, ...]:
    """fp32 before the rest: it is what the adapter is fitted on."""
    return tuple(sorted(member.artifacts, key=lambda each: each.precision != "fp32"))


def _embed(side: Side, images: Sequence[LabelledImage]) -> Floats:
    return embed_images(side.embedder, [image.path for image in images])


def _map(
    query: Floats, rows: Floats, relevant: Relevance, queries: Sequence[LabelledImage]
) -> Estimate:
    """mAP, classes resampled whole."""
    values = retrieval_per_query(query, rows, relevant).average_precision
    return mean_interval(values, [image.label for image in queries])
