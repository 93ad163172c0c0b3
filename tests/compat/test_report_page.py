"""The report page: complete, self-contained, the same bytes again, and safe with hostile words."""

import math
import re
from html.parser import HTMLParser

import pytest

from compat.errors import UsageError
from compat.policy import Policy
from compat.report import (
    Acceptance,
    ArtifactEvidence,
    ArtifactTiming,
    CloudEvidence,
    Differences,
    EmbeddingError,
    Evidence,
    Flips,
    Parity,
    Report,
    Resolvable,
    Retrieval,
    Timing,
    UnmeasuredArtifact,
    Verdict,
)
from compat.report_page import Strip, render_page
from compat.report_parts import Estimate
from compat.report_words import best_member, cosine, cost_words, headline, interval, percent, points
from compat.space import EmbeddingSpace

ADMITTED = Verdict(compatible=True, admitted=True, reasons=())
NAN = math.nan


def estimate(value, half=0.02):
    """`model_construct`: a report refuses NaN, a page must survive it all the same."""
    return Estimate.model_construct(
        value=value, low=value - half, high=value + half, counted=190, skipped=10
    )


def triple(kind, a, b, c):
    return kind(**{"hit_rate@1": estimate(a), "hit_rate@10": estimate(b), "map": estimate(c)})


def retrieval(one, ten, mean, rest=0.5):
    more = {name: estimate(rest) for name in ("recall@10", "r_precision", "map@r")}
    found = {"hit_rate@1": estimate(one), "hit_rate@10": estimate(ten), "map": estimate(mean)}
    return Retrieval(**found, **more)


def artifact(member, *, digit="1", macs=10_000_000, cross=0.9, verdict=ADMITTED, **changes):
    fields = {
        "member": member,
        "runtime": "onnxruntime",
        "precision": "int8",
        "digest": digit * 64,
        "size_bytes": 123 * 1024,
        "macs": macs,
        "params": 400_000,
        "parity": Parity(cosine_min=0.99997, cosine_mean=0.99999, centred_cosine_mean=0.9),
        "self_test": retrieval(0.6, 0.7, 0.5),
        "cross_test": retrieval(0.8, cross, 0.6),
        "cross_minus_self": triple(Differences, 0.2, 0.2, 0.1),
        "cross_minus_paragon": triple(Differences, -0.1, -0.05, -0.1),
        "overlap@10": estimate(0.7),
        "rank_biased_overlap": estimate(0.75),
        "acceptance": Acceptance(
            threshold=0.4, paragon_far=0.001, paragon_tar=0.7, far=0.002, tar=0.6
        ),
        "embedding_error": EmbeddingError(margin_normalised=estimate(0.3), centred=estimate(0.2)),
        "resolvable": Resolvable(**{"hit_rate@1": 0.03, "hit_rate@10": 0.02, "map": 0.01}),
        "cross_above_self_p": 0.01,
        "amortised_macs": 70e6,
        "flips": Flips(
            flips=19, positive_flips=4, negative_flip_rate=estimate(0.1), relative_nfr=0.5
        ),
        "verdict": verdict,
    }
    return ArtifactEvidence(**(fields | changes))


def report(*artifacts, **changes):
    fields = {
        "family": "chairs",
        "space": EmbeddingSpace(family="chairs", generation=3, dim=64),
        "evidence": Evidence(
            dataset_digest="d" * 64, split="test", queries=200, gallery=900, classes=40
        ),
        "cloud": CloudEvidence(
            name="big-cloud",
            digest="c" * 64,
            size_bytes=9_000_000,
            macs=500_000_000,
            params=5_000_000,
            paragon=retrieval(0.88, 0.95, 0.75),
        ),
        "artifacts": artifacts or (artifact("small"),),
        "policy": Policy(),
        "timing": Timing(
            machine="a machine with 4 cores",
            artifacts=(
                ArtifactTiming(
                    digest="1" * 64, latency_ms_p50=3.21, latency_ms_p95=4.5, resident_bytes=2**25
                ),
            ),
        ),
    }
    return Report(**(fields | changes))


class Page(HTMLParser):
    """Collects tags and text; fails when tags do not close in order."""

    VOID = frozenset(("meta", "br", "img", "link", "path", "use"))

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


def words(page):
    return " ".join(Page(page).text.split())


def test_the_headline_stands_first():
    text = words(
        render_page(report(artifact("small"), artifact("tiny", digit="2", macs=2_000_000)))
    )
    assert "Compatibility report: chairs, embedding space chairs/g3/64/cosine" in text
    assert "2 of 2 artifacts can search the gallery of big-cloud" in text
    assert "tiny does 250.0 times fewer MACs than the cloud model at 94.7% of the paragon's" in text
    assert text.index("Best member") < text.index("hit_rate@1")


def test_every_artifact_is_there_with_its_numbers_and_reasons():
    refused = Verdict(compatible=False, admitted=False, reasons=("parity is 0.93", "too little"))
    unmeasured = UnmeasuredArtifact(
        member="broken",
        runtime="litert",
        precision="fp16",
        digest="9" * 64,
        size_bytes=1024,
        macs=1,
        params=1,
        verdict=Verdict(compatible=False, admitted=False, reasons=("3 are not finite",)),
    )
    members = (artifact("small"), artifact("worse", digit="2", verdict=refused))
    page = render_page(report(*members, unmeasured=(unmeasured,)))
    text = words(page)
    assert "1 of 3 artifacts" in text
    for expected in (
        "small",
        "worse",
        "broken",
        "parity is 0.93",
        "too little",
        "3 are not finite",
    ):
        assert expected in text
    for digest in ("1" * 64, "2" * 64, "9" * 64, "c" * 64, "d" * 64):
        assert digest in text
    assert "Why 2 were refused" in text
    assert "80.0%78.0 to 82.0" in text  # cross-test hit_rate@1 over its interval
    assert "3.21 ms p50, 4.50 ms p95" in text
    assert "a machine with 4 cores" in text
    assert "10 without a relevant gallery image left out" in text


def test_the_page_asks_nobody():
    """A picture inside is data; everything else that could be fetched points into the page."""
    page = render_page(report(), strips=[Strip("some", b"\x89PNG")])
    assert "://" not in page
    assert "<script" not in page
    parsed = Page(page)
    assert parsed.values("src") == ["data:image/png;base64,iVBORw=="]
    assert all(link.startswith("#") for link in parsed.values("href"))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", page))
    assert "@import" not in page
    assert "link" not in parsed.tags


def test_same_report_same_bytes():
    assert render_page(report()) == render_page(report())


def test_ids_are_distinct_and_every_reference_has_its_target():
    parsed = Page(render_page(report(artifact("a"), artifact("b", digit="2"))))
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    for link in (
        *parsed.values("href"),
        *(f"#{each}" for each in parsed.values("aria-labelledby")),
    ):
        assert link[1:] in ids


HOSTILE = '<script>alert(1)</script><img src=x onerror="x">\'"</style></svg>{{ 7 * 7 }}'


def test_attack_words_that_are_markup():
    refused = Verdict(compatible=False, admitted=False, reasons=(HOSTILE,))
    hostile = report(
        artifact("small", verdict=refused),
        timing=Timing(machine=HOSTILE, artifacts=()),
        evidence=Evidence(dataset_digest="d" * 64, split=HOSTILE, queries=1, gallery=1, classes=1),
    )
    page = render_page(hostile, strips=[Strip(HOSTILE, b"")])
    plain = Page(page)
    assert "script" not in plain.tags
    assert plain.tags.count("img") == 1
    assert not plain.values("onerror")
    assert HOSTILE in plain.text


def test_nan_and_missing_are_dashes_not_zeroes():
    nothing = estimate(NAN)
    empty = retrieval(NAN, NAN, NAN, NAN)
    gaps = Differences(**{"hit_rate@1": nothing, "hit_rate@10": nothing, "map": nothing})
    blank = artifact(
        "blank",
        self_test=empty,
        cross_test=empty,
        cross_minus_self=gaps,
        cross_minus_paragon=gaps,
        parity=Parity.model_construct(cosine_min=NAN, cosine_mean=NAN, centred_cosine_mean=NAN),
        flips=Flips(flips=0, positive_flips=0, negative_flip_rate=nothing, relative_nfr=None),
        **{"overlap@10": nothing},
    )
    cloud = report().cloud.model_copy(update={"paragon": empty})
    page = render_page(report(blank, cloud=cloud, timing=Timing(machine="m", artifacts=())))
    text = words(page)
    assert "nan" not in text.lower()
    assert "at – of the paragon's" in text
    assert "not measured" in text
    assert not re.search(r"\bnan\b", page)


def test_nothing_admitted_and_nothing_measured():
    refused = Verdict(compatible=False, admitted=False, reasons=("no",))
    text = words(render_page(report(artifact("small", verdict=refused))))
    assert "0 of 1 artifacts" in text
    assert "None may be published" in text
    empty = report().model_copy(update={"artifacts": ()})
    assert "<svg role" not in render_page(empty)


def test_a_model_without_cost_is_refused_by_name():
    with pytest.raises(UsageError, match=r"small .* 0 MACs"):
        render_page(report(artifact("small", macs=0)))


def test_twenty_artifacts_are_drawn():
    many = [artifact(f"member-{n}-{'x' * 40}", macs=10**6 * (n + 1)) for n in range(20)]
    text = words(render_page(report(*many)))
    assert "member-19-" in text


def test_best_member_is_the_cheapest_then_the_better_then_the_smaller():
    cheap = artifact("cheap", macs=1_000_000, cross=0.86)
    better = artifact("cheap", macs=1_000_000, cross=0.87, precision="fp32")
    unknown = artifact("cheap", macs=1_000_000, cross=NAN, precision="fp16")
    dear = artifact("dear", macs=2_000_000, cross=0.95)
    no = Verdict(compatible=True, admitted=False, reasons=("no",))
    refused = artifact("free", macs=10, cross=0.95, verdict=no)
    assert best_member(report(dear, cheap, unknown, better, refused)) == better
    assert headline(report(refused)).verdict == "Refused"
    assert headline(report(dear, refused)).verdict == "Admitted in part"
    assert headline(report(dear)).verdict == "Admitted"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.93125), "93.1%"),
        (percent(-0.02), "−2.0%"),
        (percent(None), "–"),
        (percent(math.inf), "–"),
        (points(0.0123), "+1.2"),
        (points(-0.0123), "−1.2"),
        (interval(estimate(0.5)), "48.0 to 52.0"),
        (cosine(0.99997), "0.9999"),
        (cosine(1.0), "1.0000"),
        (cost_words(10, 100), "10.0 times fewer MACs than"),
        (cost_words(200, 100), "2.0 times the MACs of"),
    ],
)
def test_numbers_in_words(shown, expected):
    assert shown == expected
