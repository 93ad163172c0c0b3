"""Stress: curves fall, strange images are told from real ones, and circumstances change nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from compat.embedding import embed_pixels
from compat.scores import relevance
from compat.stress import StressSubject, strange_images, stress


@dataclass(frozen=True)
class Clumsy:
    """An embedder whose numbers depend on the size of the batch."""

    whole: object

    @property
    def preprocess(self):
        return self.whole.preprocess

    @property
    def dim(self):
        return self.whole.dim

    def embed(self, tensors):
        rows = self.whole.embed(tensors) + 0.01 * len(tensors)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def parts(drawn):
    recipe = drawn.cloud_embedder.preprocess
    sides = []
    for side in (drawn.evidence.queries, drawn.evidence.gallery):
        sides.append(np.stack([recipe.pixels(b) for b in side.images]))
    gallery = np.concatenate(list(embed_pixels(drawn.cloud_embedder, sides[1])))
    subject = StressSubject("edge", drawn.member_embedder, drawn.member_embedder, sides[0])
    labels = drawn.evidence.queries.labels

    def relevance_of(rows):
        return relevance([labels[row] for row in rows], drawn.evidence.gallery.labels)

    return subject, gallery, relevance_of, labels


def test_a_curve_for_each_corruption_and_one_clean_point(parts):
    subject, gallery, relevance_of, labels = parts
    found = stress([subject], gallery, relevance_of, labels)
    assert found.queries == 48
    points = {(each.corruption, each.level): each for each in found.curves}
    assert len(points) == len(found.curves) == 1 + 7 * 5
    clean = points["none", 0]
    assert clean.hit_rate_at_10.value > 0.9
    assert points["rotation", 5].map.value < clean.map.value - 0.1
    assert found == stress([subject], gallery, relevance_of, labels)


def test_the_clean_point_is_the_cross_test(parts):
    from compat.retrieval import mean, retrieval_per_query

    subject, gallery, relevance_of, labels = parts
    query = np.concatenate(list(embed_pixels(subject.embedder, subject.pixels)))
    wanted = retrieval_per_query(query, gallery, relevance_of(range(len(labels))))
    [clean] = [p for p in stress([subject], gallery, relevance_of, labels).curves if not p.level]
    assert clean.map.value == pytest.approx(mean(wanted.average_precision).value)


def test_strange_images_are_reported_beside_real_ones(parts):
    subject, gallery, relevance_of, labels = parts
    found = {each.kind: each for each in stress([subject], gallery, relevance_of, labels).strange}
    assert set(found) == set(strange_images(8))
    assert found["noise"].best_score_mean < found["noise"].real_best_score_mean
    assert found["noise"].share_above_real_median < 0.5
    assert found["black"].images == 1


def test_an_embedder_that_gives_a_strange_image_no_direction_is_told(parts):
    from compat.errors import UsageError

    subject, gallery, relevance_of, labels = parts

    @dataclass(frozen=True)
    class Refusing:
        whole: object
        preprocess = subject.embedder.preprocess
        dim = subject.embedder.dim

        def embed(self, tensors):
            if tensors.std() == 0:
                raise UsageError("embeddings: row 0 of 1 is zero or not finite")
            return self.whole.embed(tensors)

    refusing = replace(subject, embedder=Refusing(subject.embedder))
    found = {e.kind: e for e in stress([refusing], gallery, relevance_of, labels).strange}
    assert not found["black"].finite
    assert found["noise"].finite


def test_determinism_is_measured_and_its_lack_is_seen(parts):
    subject, gallery, relevance_of, labels = parts
    [steady] = stress([subject], gallery, relevance_of, labels).determinism
    assert (steady.rerun, steady.threads) == (0, 0)
    assert steady.batch < 1e-6
    clumsy = replace(subject, embedder=Clumsy(subject.embedder), two_threads=None)
    [found] = stress([clumsy], gallery, relevance_of, labels).determinism
    assert found.rerun == 0
    assert found.batch > 0.01
    assert found.threads is None


def test_a_query_that_lies_in_the_gallery_does_not_find_itself(drawn):
    """As in verification: the clean point would else be flattered by each such image."""
    evidence = drawn.evidence
    shared = replace(
        evidence.gallery,
        images=(*evidence.gallery.images, *evidence.queries.images),
        names=(*evidence.gallery.names, *evidence.queries.names),
        labels=(*evidence.gallery.labels, *evidence.queries.labels),
    )
    both = replace(evidence, gallery=shared)
    recipe = drawn.cloud_embedder.preprocess
    queries, gallery = (
        np.stack([recipe.pixels(blob) for blob in side.images]) for side in (both.queries, shared)
    )
    embedded = np.concatenate(list(embed_pixels(drawn.cloud_embedder, gallery)))
    subject = StressSubject("edge", drawn.member_embedder, None, queries)
    found = stress([subject], embedded, both.relevance, both.queries.labels)
    [clean] = [point for point in found.curves if not point.level]
    asked = np.concatenate(list(embed_pixels(drawn.member_embedder, queries)))
    precisions = []
    for row, label in enumerate(both.queries.labels):
        others = [
            (float(asked[row] @ vector), shared.labels[place] == label)
            for place, vector in enumerate(embedded)
            if shared.images[place] != both.queries.images[row]
        ]
        ranks = [n for n, (_, hit) in enumerate(sorted(others, reverse=True), start=1) if hit]
        precisions.append(np.mean([k / rank for k, rank in enumerate(ranks, start=1)]))
    assert clean.map.value == pytest.approx(np.mean(precisions), abs=1e-6)

    def with_itself(rows):
        return relevance([both.queries.labels[row] for row in rows], shared.labels)

    found = stress([subject], embedded, with_itself, both.queries.labels)
    [flattered] = [point for point in found.curves if not point.level]
    assert flattered.map.value > clean.map.value + 0.001


def test_relevance_of_some_queries_is_that_of_all_cut_to_them(drawn):
    evidence, rows = drawn.evidence, [5, 0, 17]
    whole, part = evidence.relevance(), evidence.relevance(rows)
    assert part.relevant.counts.tolist() == whole.relevant.counts[rows].tolist()
    for place, row in enumerate(rows):
        assert part.relevant.of(place).tolist() == whole.relevant.of(row).tolist()
