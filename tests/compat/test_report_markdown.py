"""The Markdown summary: complete, the same bytes again, and safe with hostile words."""

import pytest

from compat.device_evidence import AttestationSection, DeviceClassEvidence, DeviceFailure
from compat.diagnosis_section import DiagnosisSection, StageDifference
from compat.report import Report
from compat.report_markdown import escaped, render_markdown
from compat.report_words import worst_slices


def test_verdict_table_reasons_and_overrides_are_there(drawn_report):
    text = render_markdown(drawn_report)
    assert text.startswith("## 🟡 Admitted in part: drawn, space `drawn/g1/16/cosine`\n")
    assert "**1 of 3 artifacts can search the gallery of cloud.**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {10}  # every row has every column
    assert len(rows) == 2 + 1 + 3
    assert "| edge-s onnxruntime/fp32 | ✅ admitted |" in text
    assert "| tiny onnxruntime/fp32 | ❌ refused |" in text
    assert "| broken onnxruntime/fp32 | ❌ not measured |" in text
    assert "Overridden by M. Ruiz: a pilot of ten phones" in text
    for reason in drawn_report.artifacts[1].verdict.reasons:
        assert escaped(reason) in text


def test_same_report_same_bytes(drawn_report):
    again = Report.from_bytes(drawn_report.to_bytes())
    assert render_markdown(again) == render_markdown(drawn_report)


def test_nothing_is_said_of_what_was_not_measured(drawn_report):
    text = render_markdown(drawn_report)
    assert "Measured on devices" not in text
    assert "Chain" not in text


def test_devices_and_chain_are_told(drawn_report):
    row = DeviceClassEvidence(
        device_class="pixel|8",
        member="edge-s",
        runtime="litert",
        precision="int8",
        digest="1" * 64,
        provenance="measured on pixel 8",
        backends=("litert",),
        devices=3,
        attestations=3,
        admission_cosine=0.9,
        cosine_worst=0.5,
        refused_images=0,
        latency_ms_p50=1.5,
        latency_ms_p95=2.0,
        all_cores_latency_ms_p50=1.0,
        all_cores_latency_ms_p95=1.5,
        resident_bytes_max=10,
        failures=(DeviceFailure(key_id="2" * 64, source="a.json", reason="worst 0.5"),),
    )
    stage = StageDifference(
        stage="tensor", against="resize", measure="levels", difference=2, worst=3, tolerance=1,
        share=None,
    )  # fmt: skip
    text = render_markdown(
        drawn_report.model_copy(
            update={
                "attestations": AttestationSection(trust="self-signed", classes=(row,), refused=()),
                "diagnosis": DiagnosisSection(
                    images=4, stages=(stage,), first="tensor", suggestion="swap R and B"
                ),
            }
        )
    )
    assert "❌ 1 of 3 fail pixel\\|8, edge-s litert/int8: 3 devices, p50 1.50 ms" in text
    assert "First difference: tensor. swap R and B" in text


def test_worst_parts_are_of_admitted_artifacts_and_sure(drawn_report):
    """The refused one loses everywhere; it is told elsewhere."""
    lost = worst_slices(drawn_report, 100)
    assert {label for label, _ in lost} <= {"edge-s onnxruntime/fp32"}
    assert all(row.difference.high < 0 and row.p_adjusted < 0.05 for _, row in lost)
    everything = drawn_report.model_copy(
        update={
            "artifacts": tuple(
                each.model_copy(
                    update={"verdict": each.verdict.model_copy(update={"admitted": True})}
                )
                for each in drawn_report.artifacts
            )
        }
    )
    found = worst_slices(everything, 100)
    losses = [row.difference.value for _, row in found]
    assert losses == sorted(losses)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hit_rate@10 is 0.9", "hit_rate@10 is 0.9"),
        ("a | b", "a \\| b"),
        ("<img src=x>\n# title", "\\<img src=x\\> \\# title"),
        ("[x](y) *b* `c` ~d~", "\\[x\\](y) \\*b\\* \\`c\\` \\~d\\~"),
        ("_x_ @team &lt;", "\\_x\\_ \\@team &amp;lt;"),
        ("see https://x.example", "see https://\u200bx.example"),
    ],
)
def test_attack_words_that_are_markdown(words, expected):
    assert escaped(words) == expected
