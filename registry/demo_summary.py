"""What the demo says at its end: a table for people, the same numbers as JSON for programs."""

import math
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from compat.manifest import ReleaseManifest
from compat.report import ArtifactEvidence, Report, Retrieval, UnmeasuredArtifact

TABLE_COLUMNS = 96


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


def wide_console(*, stderr: bool = False) -> Console:
    """A console on which the table fits, also where the output is a file or a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=TABLE_COLUMNS)


def summary_table(report: Report) -> Table:
    """Cloud against edge: one row an artifact, percent as rendered text."""
    title = f"{report.space.id}: {report.evidence.queries} queries of unseen classes"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    table.add_column("runs on", no_wrap=True)
    heads = ("M MACs", "fewer", "KiB", "ms", "self hit@10", "cross hit@10", "self mAP", "cross mAP")
    for head in heads:
        table.add_column(head, justify="right", min_width=4)
    table.add_column("gate", no_wrap=True)
    cloud = report.cloud
    table.add_row(
        f"[bold]{cloud.name}",
        "cloud",
        f"{cloud.macs / 1e6:.1f}",
        "1x",
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
            _runs_on(each),
            f"{each.macs / 1e6:.1f}",
            f"{cloud.macs / each.macs:.0f}x",
            f"{each.size_bytes / 1024:.0f}",
            _ms(report, each.digest),
            f"{each.self_test.hit_rate_at_10.value:.1%}",
            f"{each.cross_test.hit_rate_at_10.value:.1%}",
            f"{each.self_test.map.value:.1%}",
            f"{each.cross_test.map.value:.1%}",
            "[green]admitted" if verdict.admitted else "[red]kept out",
        )
    for broken in report.unmeasured:
        table.add_row(broken.member, _runs_on(broken), *[""] * 8, "[red]broken")
    return table


def _runs_on(artifact: ArtifactEvidence | UnmeasuredArtifact) -> str:
    runtime = {"onnxruntime": "onnx", "litert": "litert"}[artifact.runtime]
    return f"{runtime} {artifact.precision}"


def _ms(report: Report, digest: str) -> str:
    latency_ms = _latency_ms(report, digest)
    return "" if latency_ms is None or math.isnan(latency_ms) else f"{latency_ms:.2f}"
