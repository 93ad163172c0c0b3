"""What the demo says at its end: a table for people, the same numbers as JSON for programs."""

import math
from pathlib import Path

from rich.table import Table

from compat.manifest import ReleaseManifest
from compat.report import ArtifactEvidence, Report, Retrieval


def summary_of(
    report: Report,
    *,
    release: ReleaseManifest,
    seconds: float,
    report_html: Path,
    contact_sheet: Path,
) -> dict[str, object]:
    """The tree of summary.json; fractions in [0, 1], ``seconds`` of work in all stages."""
    cloud = report.cloud
    return {
        "seconds": round(seconds, 1),
        "release": f"{release.family} {release.version}",
        "report_html": str(report_html),
        "contact_sheet": str(contact_sheet),
        "paragon": {"queries": report.evidence.queries, **_accuracy(cloud.paragon)},
        "cloud": {
            "macs": cloud.macs,
            "bytes": cloud.size_bytes,
            "latency_ms_p50": _latency_ms(report, cloud.digest),
        },
        "members": [_member(report, each) for each in report.artifacts],
    }


def _member(report: Report, evidence: ArtifactEvidence) -> dict[str, object]:
    return {
        "name": evidence.member,
        "runtime": evidence.runtime,
        "precision": evidence.precision,
        "macs": evidence.macs,
        "bytes": evidence.size_bytes,
        "latency_ms_p50": _latency_ms(report, evidence.digest),
        "parity_cosine_min": evidence.parity.cosine_min,
        "compatible": evidence.verdict.compatible,
        "admitted": evidence.verdict.admitted,
        "self": _accuracy(evidence.self_test),
        "cross": _accuracy(evidence.cross_test),
    }


def _accuracy(retrieval: Retrieval) -> dict[str, float]:
    return {
        "hit_rate@1": retrieval.hit_rate_at_1.value,
        "hit_rate@10": retrieval.hit_rate_at_10.value,
        "map": retrieval.map.value,
    }


def _latency_ms(report: Report, digest: str) -> float | None:
    timing = report.timing.of(digest)
    return round(timing.latency_ms_p50, 3) if timing else None


def summary_table(report: Report) -> Table:
    """Cloud against edge: one row an artifact, percent as rendered text."""
    table = Table(title=f"{report.space.id}: {report.evidence.queries} queries of unseen classes")
    table.add_column("model")
    table.add_column("runs on")
    for head in ("MACs", "KiB", "ms", "self hit@10", "cross hit@10", "self mAP", "cross mAP"):
        table.add_column(head, justify="right")
    table.add_column("gate")
    cloud = report.cloud
    table.add_row(
        f"[bold]{cloud.name}",
        "cloud",
        f"{cloud.macs / 1e6:.1f} M",
        f"{cloud.size_bytes / 1024:.0f}",
        _ms(report, cloud.digest),
        "",
        f"[bold]{cloud.paragon.hit_rate_at_10.value:.1%}",
        "",
        f"[bold]{cloud.paragon.map.value:.1%}",
        "paragon",
    )
    for each in report.artifacts:
        verdict = each.verdict
        table.add_row(
            each.member,
            f"{each.runtime} {each.precision}",
            f"{each.macs / 1e6:.1f} M ({cloud.macs / each.macs:.0f}x less)",
            f"{each.size_bytes / 1024:.0f}",
            _ms(report, each.digest),
            f"{each.self_test.hit_rate_at_10.value:.1%}",
            f"{each.cross_test.hit_rate_at_10.value:.1%}",
            f"{each.self_test.map.value:.1%}",
            f"{each.cross_test.map.value:.1%}",
            "[green]admitted" if verdict.admitted else "[red]kept out",
        )
    for broken in report.unmeasured:
        table.add_row(
            broken.member, f"{broken.runtime} {broken.precision}", *[""] * 7, "[red]broken"
        )
    return table


def _ms(report: Report, digest: str) -> str:
    latency_ms = _latency_ms(report, digest)
    return "" if latency_ms is None or math.isnan(latency_ms) else f"{latency_ms:.2f}"
