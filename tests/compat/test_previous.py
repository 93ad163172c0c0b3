"""Against the previous release: flips of real answers, in parts, in rules and in pictures."""

from dataclasses import replace

import numpy as np
import pytest

from compat.errors import ConfigError, UsageError
from compat.evidence import EvidenceSet
from compat.flip_strips import FlipStrips, draw_strips
from compat.policy import Policy, Rule
from compat.previous_answers import PreviousRelease
from compat.report import Report
from compat.report_markdown import render_markdown
from compat.report_page import render_page
from compat.report_words import update_lines
from compat.retrieval import retrieval_per_query
from compat.scores import relevance
from compat.verification import verify


@pytest.fixture(scope="module")
def lit(drawn) -> EvidenceSet:
    """The drawn evidence with a column to part it by."""
    light = tuple(("dim", "bright")[row % 2] for row in range(len(drawn.evidence.queries)))
    queries = replace(drawn.evidence.queries, columns={"light": light})
    return replace(drawn.evidence, queries=queries)


@pytest.fixture(scope="module")
def release(drawn) -> PreviousRelease:
    """What devices run: another space, a member with other noise, and one that is gone."""
    rng = np.random.default_rng(7)
    cloud = replace(drawn.cloud_embedder, matrix=rng.normal(size=drawn.cloud_embedder.matrix.shape))
    member = replace(cloud, noise=0.1)
    return PreviousRelease(
        space=drawn.space.model_copy(update={"generation": 2}),
        cloud=replace(drawn.cloud, embedder=cloud),
        members=(
            drawn.member(member, digest="b" * 64),
            drawn.member(member, name="gone", digest="e" * 64),
        ),
    )


@pytest.fixture(scope="module")
def report(drawn, lit, release) -> Report:
    new = drawn.member(name="new")
    members = [drawn.member(), new]
    return verify(
        lit, drawn.cloud, members=members, space=drawn.space, policy=Policy(), timing=drawn.timing,
        previous=release.answers(lit, [each.label for each in members]),
    )  # fmt: skip


def hits(drawn, query_embedder, gallery_embedder, k: int) -> np.ndarray:
    def of(embedder, side):
        tensors = [embedder.preprocess.tensor(image) for image in side.images]
        return embedder.embed(np.stack(tensors))

    sides = drawn.evidence.queries, drawn.evidence.gallery
    found = retrieval_per_query(
        of(query_embedder, sides[0]),
        of(gallery_embedder, sides[1]),
        relevance(*(side.labels for side in sides)),
    )
    return found.hit_rate_at_1 if k == 1 else found.hit_rate_at_10


@pytest.mark.parametrize("k", [1, 10])
def test_each_release_searches_its_own_gallery(drawn, release, report, k) -> None:
    old = hits(drawn, release.members[0].embedder, release.cloud.embedder, k)
    now = hits(drawn, drawn.member_embedder, drawn.cloud_embedder, k)
    previous = report.artifacts[0].previous
    found = previous.flips_at_1 if k == 1 else previous.flips_at_10
    assert found.flips == int(((old == 1) & (now == 0)).sum())
    assert found.positive_flips == int(((old == 0) & (now == 1)).sum())
    assert found.negative_flip_rate.value == found.flips / len(old)
    assert found.error_before == pytest.approx(1 - old.mean())
    assert found.error_now == pytest.approx(1 - now.mean())
    independent = old.mean() * (1 - now.mean())
    relative = found.flips / len(old) / independent if independent else None
    assert found.relative_nfr == pytest.approx(relative)
    assert previous.digest == "b" * 64
    assert k == 10 or found.flips > 0


def test_what_the_previous_release_lacks_is_not_compared(report) -> None:
    assert report.artifacts[1].previous is None
    rows = report.slices.rows
    assert all((row.previous is None) == (row.artifact != rows[0].artifact) for row in rows)


def test_parts_add_up_to_the_whole(report) -> None:
    [first, _] = report.artifacts
    parts = [row for row in report.slices.of(first.digest) if row.column == "light"]
    assert len(parts) == 2
    assert sum(row.previous.flips for row in parts) == first.previous.flips_at_1.flips


def test_a_report_without_a_previous_release_says_nothing_of_it(drawn, drawn_report) -> None:
    assert all(each.previous is None for each in drawn_report.artifacts)
    assert update_lines(drawn_report) == []
    assert "gets worse" not in render_markdown(drawn_report) + render_page(drawn_report)


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"measure": "previous.flips@1.negative_flip_rate", "max": 0.0}, "failed"),
        ({"measure": "previous.flips@1.negative_flip_rate", "max": 1.0}, "passed"),
        ({"measure": "previous.flips@1.relative_nfr", "max": 0.0}, "failed"),
        ({"measure": "previous.negative_flip_rate", "slice": "light=dim", "max": 1.0}, "passed"),
    ],
)
def test_rules_read_the_flips(drawn, lit, release, rule, status) -> None:
    member = drawn.member()
    policy = Policy(rules=(Rule(name="no-harm", **rule),))
    report = verify(
        lit, drawn.cloud, members=[member], space=drawn.space, policy=policy, timing=drawn.timing,
        previous=release.answers(lit, [member.label]),
    )  # fmt: skip
    [outcome] = [one for one in report.artifacts[0].verdict.outcomes if one.rule == "no-harm"]
    assert outcome.status == status
    assert report.artifacts[0].verdict.admitted == (status == "passed")


def test_a_rule_on_flips_without_a_previous_release_says_so(drawn) -> None:
    measure = "previous.flips@1.negative_flip_rate"
    policy = Policy(rules=(Rule(name="no-harm", measure=measure, max=0.01),))
    with pytest.raises(ConfigError, match="kinspace verify --previous"):
        verify(
            drawn.evidence, drawn.cloud, members=[drawn.member()], space=drawn.space,
            policy=policy, timing=drawn.timing,
        )  # fmt: skip


def test_a_release_of_other_members_is_refused(drawn, release) -> None:
    with pytest.raises(UsageError, match="has none of stranger onnxruntime/fp32: it has edge-s"):
        release.answers(drawn.evidence, ["stranger onnxruntime/fp32"])


def test_flips_are_said_and_shown(lit, report) -> None:
    strips = draw_strips(report, lit)
    assert strips is not None
    assert strips.update is not None
    first = report.artifacts[0]
    assert strips.update.digest == first.digest
    for strip in strips.update.strips:
        assert strip.before[0].is_relevant
        assert not strip.now[0].is_relevant
    assert FlipStrips.from_bytes(strips.to_bytes()) == strips
    assert strips.shows(report)
    page = render_page(report, flips=strips)
    assert "Who gets worse by this update" in page
    assert page.count("found now: class-") == 3 * len(strips.update.strips)
    assert "Who gets worse by this update" in render_markdown(report)
    [line] = update_lines(report)
    assert f"{100 * first.previous.flips_at_1.negative_flip_rate.value:.1f}%" in line
    assert Report.from_bytes(report.to_bytes()) == report
