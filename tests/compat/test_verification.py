"""A whole family, measured by embedders that run; broken ones are refused by name."""

import re
from dataclasses import replace

import numpy as np
import pytest

from compat.embedding import cosine_rows
from compat.errors import DataError, ImageError, RefusedError, UsageError
from compat.evidence import EvidenceSet, LabelledImages
from compat.flips import count_flips
from compat.overlap import overlap_at_k, top_items
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import Report
from compat.retrieval import mean, retrieval_per_query
from compat.scores import relevance
from compat.statistics import mean_interval
from compat.verification import verify


def run(drawn, *members, **over):
    """Verify members of the drawn family."""
    given = {
        "members": members,
        "space": drawn.space,
        "policy": Policy(),
        "timing": drawn.timing,
        **over,
    }
    evidence = given.pop("evidence", drawn.evidence)
    return verify(evidence, given.pop("cloud", drawn.cloud), **given)


def embeddings_of(embedder, side):
    return embedder.embed(np.stack([embedder.preprocess.tensor(image) for image in side.images]))


def test_a_compatible_member_is_admitted(drawn):
    [found] = run(drawn, drawn.member()).artifacts
    assert found.verdict.compatible
    assert found.verdict.admitted
    assert found.verdict.reasons == ()
    assert found.self_test.map.value < found.cross_test.map.value
    assert found.cross_minus_self.map.low > 0
    assert found.parity.cosine_min > 0.9999


def test_every_number_is_the_one_that_its_name_promises(drawn):
    """Query first: each test recomputed from embeddings that are made here."""
    queries, gallery = drawn.evidence.queries, drawn.evidence.gallery
    edge, cloud = drawn.member_embedder, drawn.cloud_embedder
    q, qg = embeddings_of(edge, queries), embeddings_of(edge, gallery)
    c, g = embeddings_of(cloud, queries), embeddings_of(cloud, gallery)
    both = relevance(queries.labels, gallery.labels)
    paragon, own, cross = (retrieval_per_query(a, b, both) for a, b in ((c, g), (q, qg), (q, g)))
    report = run(drawn, drawn.member())
    [found] = report.artifacts
    for measured, expected in (
        (report.cloud.paragon, paragon),
        (found.self_test, own),
        (found.cross_test, cross),
    ):
        assert measured.hit_rate_at_1.value == mean(expected.hit_rate_at_1).value
        assert measured.hit_rate_at_10.value == mean(expected.hit_rate_at_10).value
        assert measured.map.value == pytest.approx(mean(expected.average_precision).value)
        assert (measured.map.counted, measured.map.skipped) == (48, 0)
    assert found.cross_minus_self.map.value == pytest.approx(
        (cross.average_precision - own.average_precision).mean()
    )
    assert found.cross_minus_paragon.hit_rate_at_1.value == pytest.approx(
        (cross.hit_rate_at_1 - paragon.hit_rate_at_1).mean()
    )
    overlap = overlap_at_k(top_items(c, g, 10), top_items(q, g, 10))
    assert found.overlap_at_10.value == pytest.approx(overlap.mean())
    flips = count_flips(paragon.hit_rate_at_1, cross.hit_rate_at_1)
    assert found.flips.flips == flips.negative > 0
    assert found.flips.negative_flip_rate.value == flips.negative / 48
    assert found.flips.relative_nfr == flips.relative_nfr
    labels = drawn.evidence.gallery.labels
    for example in found.flips.examples:
        asked = drawn.evidence.queries.labels[example.query]
        assert labels[example.cloud[0]] == asked != labels[example.member[0]]
        assert len(example.cloud) == len(example.member) == 3
    assert len(found.flips.examples) == min(6, flips.negative)
    assert found.scores is not None
    assert sum(found.scores.genuine) == 48 * 6


def test_every_interval_resamples_whole_classes(drawn):
    queries, gallery = drawn.evidence.queries, drawn.evidence.gallery
    q, g = (
        embeddings_of(drawn.member_embedder, queries),
        embeddings_of(drawn.cloud_embedder, gallery),
    )
    c = embeddings_of(drawn.cloud_embedder, queries)
    both = relevance(queries.labels, gallery.labels)
    cross, paragon = retrieval_per_query(q, g, both), retrieval_per_query(c, g, both)
    overlap = overlap_at_k(top_items(c, g, 10), top_items(q, g, 10))
    flips = count_flips(paragon.hit_rate_at_1, cross.hit_rate_at_1).negative_per_query
    [found] = run(drawn, drawn.member()).artifacts
    lost = found.cross_minus_paragon
    for estimate, values in (
        (found.cross_test.hit_rate_at_1, cross.hit_rate_at_1),
        (found.cross_test.hit_rate_at_10, cross.hit_rate_at_10),
        (found.cross_test.map, cross.average_precision),
        (lost.hit_rate_at_1, cross.hit_rate_at_1 - paragon.hit_rate_at_1),
        (lost.hit_rate_at_10, cross.hit_rate_at_10 - paragon.hit_rate_at_10),
        (lost.map, cross.average_precision - paragon.average_precision),
        (found.overlap_at_10, overlap),
        (found.flips.negative_flip_rate, flips),
    ):
        by_class = mean_interval(values, queries.labels)
        assert (estimate.low, estimate.high) == pytest.approx((by_class.low, by_class.high))


def test_the_report_says_what_was_measured_and_on_what(drawn):
    report = run(drawn, drawn.member())
    assert report.evidence.model_dump() == {
        "dataset_digest": "d" * 64,
        "split": "test",
        "queries": 48,
        "gallery": 72,
        "classes": 12,
    }
    assert report.family == "drawn"
    assert (report.cloud.name, report.cloud.digest) == ("cloud", "c" * 64)
    [found] = report.artifacts
    assert (found.member, found.size_bytes, found.macs) == ("edge-s", 1_600_000, 2_800_000)
    assert found.cross_test.map.low < found.cross_test.map.value < found.cross_test.map.high


def test_attack_a_model_trained_alone_is_refused_in_words(drawn):
    """The same weights, rotated: perfect with itself, noise against the cloud's gallery."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))
    alone = replace(drawn.cloud_embedder, matrix=drawn.cloud_embedder.matrix @ turn)
    stranger = drawn.member(alone, name="stranger", reference=drawn.embed_queries(alone))
    report = run(drawn, stranger, drawn.member())
    refused, admitted = report.artifacts
    assert refused.self_test.map.value == pytest.approx(report.cloud.paragon.map.value)
    assert refused.parity.cosine_min > 0.9999
    assert refused.cross_test.hit_rate_at_1.value < 0.3
    assert not refused.verdict.compatible
    assert not refused.verdict.admitted
    assert "gallery vectors mean nothing to this model" in refused.verdict.reasons[0]
    assert f"mAP {refused.cross_test.map.value:.3f}" in refused.verdict.reasons[0]
    assert report.admitted == (admitted,)


def test_the_cloud_model_itself_is_no_edge_model(drawn):
    """Cross-test equals self-test exactly: the rule asks for more."""
    twin = drawn.member(drawn.cloud_embedder, reference=drawn.embed_queries(drawn.cloud_embedder))
    [found] = run(drawn, twin).artifacts
    assert found.cross_minus_self.map.value == 0
    assert not found.verdict.compatible
    assert "is not above self-test" in found.verdict.reasons[0]
    assert "mean nothing" not in found.verdict.reasons[0]
    assert (found.overlap_at_10.value, found.flips.flips) == (1, 0)


def test_without_the_rule_it_is_admitted_and_still_not_compatible(drawn):
    twin = drawn.member(drawn.cloud_embedder, reference=drawn.embed_queries(drawn.cloud_embedder))
    [found] = run(drawn, twin, policy=Policy(require_compatibility_rule=False)).artifacts
    assert found.verdict.admitted
    assert not found.verdict.compatible


def spoil_nan(embeddings):
    embeddings[0, 3] = np.nan
    return embeddings


def refuse_to_run(embeddings):
    raise UsageError("the runtime gave up")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nan, "1 of 48 embeddings are not finite"),
        (lambda rows: rows * np.float32(np.inf), "48 of 48 embeddings are not finite"),
        (lambda rows: rows[:, :8], r"shape \(48, 8\), the space needs \(48, 16\)"),
        (lambda rows: rows[:5], r"shape \(5, 16\), the space needs \(48, 16\)"),
        (lambda rows: rows * np.float32(1.01), "not of L2 norm 1"),
        (lambda rows: rows * np.float32(0), "not of L2 norm 1"),
        (lambda rows: np.repeat(rows[:1], len(rows), axis=0), "collapsed"),
        (refuse_to_run, "the runtime gave up"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_attack_a_broken_artifact_is_refused_by_name_and_the_others_are_measured(
    drawn, spoil, words
):
    broken = drawn.spoilt(spoil, name="broken", runtime="litert", precision="int8")
    report = run(drawn, broken, drawn.member())
    [refused] = report.unmeasured
    assert (refused.member, refused.runtime, refused.precision) == ("broken", "litert", "int8")
    assert not refused.verdict.admitted
    assert not refused.verdict.compatible
    [reason] = refused.verdict.reasons
    assert re.search(words, reason)
    assert "broken litert/int8" in reason or "runtime gave up" in reason
    assert report.artifacts == run(drawn, drawn.member()).artifacts
    assert Report.from_bytes(report.to_bytes()) == report


def test_a_quantised_file_that_computes_another_function_is_refused(drawn):
    rng = np.random.default_rng(0)
    off = drawn.embed_queries(drawn.member_embedder) + 0.3 * rng.normal(size=(48, 16))
    [found] = run(drawn, drawn.member(precision="int8", reference=off)).artifacts
    assert found.verdict.compatible
    assert not found.verdict.admitted
    assert "parity cosine" in found.verdict.reasons[0]
    assert "int8 needs 0.9" in found.verdict.reasons[0]


def test_trained_weights_that_give_nan_are_refused_by_name(drawn):
    reference = drawn.embed_queries(drawn.member_embedder).copy()
    reference[7] = np.nan
    report = run(drawn, drawn.member(reference=reference))
    assert not report.artifacts
    assert "row 7" in report.unmeasured[0].verdict.reasons[0]


def test_a_broken_cloud_model_ends_it(drawn):
    broken = replace(drawn.cloud, embedder=drawn.spoilt(spoil_nan).embedder)
    with pytest.raises(RefusedError, match=r"cloud onnxruntime/fp32: queries: 1 of 48"):
        run(drawn, drawn.member(), cloud=broken)


def test_a_cloud_model_of_another_dimension_ends_it(drawn):
    wide = drawn.space.model_copy(update={"dim": 32})
    member = drawn.member(reference=np.zeros((48, 32), dtype=np.float32))
    with pytest.raises(RefusedError, match=r"shape \(48, 16\), the space needs \(48, 32\)"):
        run(drawn, member, space=wide)


@pytest.mark.parametrize("reference", [None, np.zeros((47, 16)), np.zeros((48, 15))])
def test_a_reference_that_does_not_correspond_is_refused_before_any_work(drawn, reference):
    steps = []
    with pytest.raises(UsageError, match=r"edge-s onnxruntime/fp32 needs reference embeddings"):
        run(drawn, drawn.member(reference=reference), progress=lambda *step: steps.append(step))
    assert steps == []


def test_nothing_to_verify_is_refused(drawn):
    with pytest.raises(UsageError, match="at least one member"):
        run(drawn)


def test_a_rerun_gives_the_same_bytes(drawn):
    first, second = (run(drawn, drawn.member()).to_bytes() for _ in range(2))
    assert first == second
    assert Report.from_bytes(first).to_bytes() == first


def test_attack_query_images_in_the_gallery_are_not_found_again(drawn):
    """The same bytes on both sides: were they left in, rank 1 would be perfect for noise."""
    queries, gallery = drawn.evidence.queries, drawn.evidence.gallery
    leaky = EvidenceSet(
        queries=queries,
        gallery=LabelledImages(
            names=gallery.names + queries.names,
            images=gallery.images + queries.images,
            labels=gallery.labels + queries.labels,
        ),
        dataset_digest="e" * 64,
        split="test",
    )
    report = run(drawn, drawn.member(), evidence=leaky)
    assert report.cloud.paragon.hit_rate_at_1.value < 1
    [found] = report.artifacts
    assert found.self_test.hit_rate_at_1.value < 0.9


def with_queries(drawn, **over):
    return replace(drawn.evidence, queries=replace(drawn.evidence.queries, **over))


def test_evidence_without_a_single_answer_is_refused(drawn):
    with pytest.raises(DataError, match="no query of split 'test' has a relevant gallery image"):
        run(drawn, drawn.member(), evidence=with_queries(drawn, labels=("nobody",) * 48))


def test_evidence_of_one_answered_class_is_refused(drawn):
    labels = ("class-0",) * 4 + ("nobody",) * 44
    with pytest.raises(DataError, match="at least two classes"):
        run(drawn, drawn.member(), evidence=with_queries(drawn, labels=labels))


def test_lone_queries_are_skipped_and_counted(drawn):
    labels = drawn.evidence.queries.labels[:44] + ("nobody",) * 4
    report = run(drawn, drawn.member(), evidence=with_queries(drawn, labels=labels))
    [found] = report.artifacts
    for estimate in (report.cloud.paragon.map, found.cross_test.map, found.cross_minus_self.map):
        assert (estimate.counted, estimate.skipped) == (44, 4)
    assert found.flips.negative_flip_rate.skipped == 4
    assert found.overlap_at_10.counted == 48  # needs no label


def test_a_damaged_image_is_named(drawn):
    images = (*drawn.evidence.queries.images[:47], b"\x89PNG")
    with pytest.raises(ImageError, match=r"query/47\.png"):
        run(drawn, drawn.member(), evidence=with_queries(drawn, images=images))


def test_each_image_is_decoded_once_for_all_recipes(drawn):
    """Two recipes, three models: 120 images, 120 decodings; progress ends complete."""
    large = Preprocess(size_px=16)
    matrix = np.random.default_rng(1).normal(size=(16 * 16 * 3, 16))
    other = replace(drawn.member_embedder, matrix=matrix, preprocess=large)
    steps = []
    run(
        drawn,
        drawn.member(),
        drawn.member(other, name="other", reference=drawn.embed_queries(other)),
        progress=lambda *step: steps.append(step),
    )
    decoded = [done for what, done, total in steps if what == "decode"]
    assert decoded == list(range(1, 121))
    ends = {what: (done, total) for what, done, total in steps}
    assert all(done == total for done, total in ends.values())
    assert ends["embed gallery with other onnxruntime/fp32"] == (72, 72)


def test_inputs_are_left_as_they_were(drawn):
    member = drawn.member()
    before = member.reference.copy()
    run(drawn, member)
    np.testing.assert_array_equal(member.reference, before)
    assert cosine_rows(member.reference, before).min() > 0.9999
