"""Plant every known fault into a real family and see that it is caught, and in which words.

``python -m benchmarks.planted_faults`` edits, exports and feeds the demo's models wrongly, spoils
its evidence, runs the checks that ship, and writes ``benchmarks/results/planted_faults.*``. Exit 0
only when every fault is caught by a check that speaks of it, and everything unplanted passes.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress

from benchmarks import faulty_data as data
from benchmarks import faulty_models as models
from benchmarks.tables import publish_table
from compat.dataset import Dataset, read_dataset
from compat.diagnosis import Suspect, diagnose_suspect
from compat.embedding import cosine_rows, embed_pixels
from compat.errors import KinspaceError
from compat.evidence import EvidenceSet
from compat.images import read_image
from compat.policy import Policy
from compat.report import Report, Timing
from compat.space import EmbeddingSpace
from compat.terminal import STDERR
from compat.verification import Subject, verify
from registry.candidate import CandidateFolder
from registry.evidence_check import check_leakage
from registry.judging import labelled, subjects_of
from registry.workspace import Workspace
from server_models.config import read_family
from server_models.export.layer_noise import measure_layers

COSINE_GATE = 0.99  # what other tools ask of an export
DIAGNOSED_IMAGES = 16
LAYER_IMAGES = 8
FORGOTTEN = ("category", "Vehicles")
NO_CAUSE = "no cause explains it"
Plant = Callable[[Dataset, Path], tuple[str, ...]]


@dataclass(frozen=True)
class Finding:
    """One fault, and who said what of it."""

    fault: str
    caught: bool
    by: str  # the checks that refuse or warn
    words: str
    cosine: float | None  # parity in the mean; None: not a number
    gate_says: str  # a cosine gate at `COSINE_GATE`


@dataclass(frozen=True)
class ModelFault:
    """A spoilt subject, the rules that must refuse it, and the cause that diagnosis must name."""

    title: str
    subject: Subject
    rules: frozenset[str]
    cause: str | None = None


def model_faults(base: models.Base) -> list[ModelFault]:
    """Every fault that a report must refuse."""
    recipe = base.model.preprocess
    plain = recipe.model_dump()
    halves = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    fed = partial(models.fed_wrongly, base)
    parity, defects = frozenset({"parity"}), frozenset({"defects"})
    lost = frozenset({"compatibility", "near-paragon"})
    return [
        ModelFault(
            "RGB and BGR swapped",
            fed("swapped-channels", models.SwappedChannels(**plain)),
            parity,
            "RGB and BGR swapped",
        ),
        ModelFault(
            "another resize kernel",
            fed("other-kernel", recipe.model_copy(update={"resize": "bilinear"})),
            parity,
            "resized with bilinear instead of bicubic",
        ),
        ModelFault(
            "no antialias",
            fed("no-antialias", models.NoAntialias(**plain)),
            parity,
            "resized with bilinear without antialias",
        ),
        ModelFault(
            "wrong normalisation",
            fed("wrong-normalisation", recipe.model_copy(update=halves)),
            parity,
            "mean and std are 0.5, 0.5",
        ),
        ModelFault("int8 calibrated on noise", models.noise_calibrated(base), parity),
        ModelFault("collapsed cone", models.cone_collapsed(base), lost),
        ModelFault("NaN outputs", models.broken_output(base, "nan", np.nan), defects),
        ModelFault("zero outputs", models.broken_output(base, "zero", 0.0), defects),
        ModelFault("unnormalised int8 output", models.unnormalised(base), defects),
        ModelFault(
            "embeddings of another generation",
            models.other_generation(base),
            frozenset({"not-below-itself"}),
        ),
        ModelFault(
            "better on average, loses one class",
            models.loses_one_class(base, *FORGOTTEN),
            frozenset({"no-part-lost"}),
        ),
    ]


def measured(
    base: models.Base, cloud: Subject, faults: Sequence[ModelFault], policy: Policy
) -> Report:
    """One verification of everything that is healthy and everything that is not."""
    dataset = base.dataset
    evidence = EvidenceSet(
        queries=labelled(dataset.of("test", "query")),
        gallery=labelled(dataset.of("test", "gallery")),
        dataset_digest=dataset.digest,
        split="test",
    )
    with Progress(transient=True, console=STDERR) as bar:
        shown = bar.add_task("verify")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        return verify(
            evidence,
            cloud,
            members=[*models.healthy(base), *(fault.subject for fault in faults)],
            space=_space(base),
            policy=policy,
            timing=Timing(machine="not measured", artifacts=()),
            progress=progress,
        )


def _space(base: models.Base) -> EmbeddingSpace:
    return EmbeddingSpace(family="planted", generation=1, dim=base.reference.shape[1])


def judge_model(base: models.Base, fault: ModelFault, report: Report) -> Finding:
    """What the report says of one spoilt subject, and whether diagnosis names the cause."""
    failed = _refusals(report, fault.subject.name)
    words = [text for rule, text in failed if rule in fault.rules]
    named = True
    if fault.cause:
        found = _diagnosed(base, fault.subject)
        named = found == fault.cause
        words.append(f"kinspace diagnose: {found}")
    cosine = _reported_cosine(report, fault.subject.name)
    if cosine is None:  # the report does not measure what cannot be compared
        cosine = _cosine(base, fault.subject)
    return Finding(
        fault=fault.title,
        caught=named and any(rule in fault.rules for rule, _ in failed),
        by=", ".join(rule for rule, _ in failed) or "nobody",
        words="; ".join(words),
        cosine=cosine,
        gate_says=_gate(cosine),
    )


def _refusals(report: Report, name: str) -> list[tuple[str, str]]:
    """(rule, words) of every rule that refuses; embeddings without meaning are "defects"."""
    for broken in report.unmeasured:
        if broken.member == name:
            return [("defects", "; ".join(broken.verdict.reasons))]
    [artifact] = [each for each in report.artifacts if each.member == name]
    return [(each.rule, each.words) for each in artifact.verdict.outcomes if not each.admits]


def _diagnosed(base: models.Base, subject: Subject) -> str:
    """The cause that explains what the subject gives for a few queries."""
    blobs = [read_image(each.path) for each in base.queries[:DIAGNOSED_IMAGES]]
    pixels = np.stack([subject.embedder.preprocess.pixels(blob) for blob in blobs])
    rows = np.concatenate(list(embed_pixels(subject.embedder, pixels)))
    right = base.open(base.blob("onnxruntime/fp32"))
    section = diagnose_suspect(
        Suspect("embedding", rows, 1e-3), blobs, base.model.preprocess, right.embed
    )
    explaining = [cause.name for cause in section.causes if cause.explains]
    return explaining[0] if explaining else NO_CAUSE


def _reported_cosine(report: Report, name: str) -> float | None:
    return next((each.parity.cosine_mean for each in report.artifacts if each.member == name), None)


def _cosine(base: models.Base, subject: Subject) -> float | None:
    """Mean parity cosine, as a tool computes it that looks at nothing else."""
    assert subject.reference is not None
    try:
        return float(cosine_rows(base.embed(subject.embedder), subject.reference).mean())
    except KinspaceError:
        return None


def _gate(cosine: float | None) -> str:
    if cosine is None:
        return "refuses: not a number"
    return "admits" if cosine >= COSINE_GATE else "refuses"


def moving_average(base: models.Base) -> Finding:
    """Clipped ranges cost this network little, so layers are looked at, not results."""
    blob = models.moving_average_int8(base)
    subject = base.subject("moving-average", base.open(blob), precision="int8")
    spoilt, healthy = (
        measure_layers(
            base.blob("onnxruntime/fp32"), each, base.calibration[:LAYER_IMAGES], "int8"
        ).suggestion
        for each in (blob, base.blob("onnxruntime/int8"))
    )
    cosine = _cosine(base, subject)
    return Finding(
        fault="int8 calibrated by a moving average",
        caught="clip" in spoilt and "clip" not in healthy,
        by="diagnose (layers)",
        words=f"{spoilt} (of the healthy file: {healthy})",
        cosine=cosine,
        gate_says=_gate(cosine),
    )


def data_findings(base: models.Base, cloud: CandidateFolder) -> list[Finding]:
    """Faults of the evidence: no artifact changes, so a gate on cosines cannot see them."""
    other = base.open(base.blob("onnxruntime/fp32"))
    gallery = partial(data.two_model_gallery, cloud=cloud, other=other, space=_space(base))
    checks: list[tuple[str, str, Plant]] = [
        ("labels both trained on and tested", "dataset", data.label_leak),
        ("test pictures trained on, encoded anew", "leakage", data.picture_leak),
        ("queries in the gallery, encoded anew", "leakage", data.copies_on_both_sides),
        ("queries in the gallery, same bytes", "leakage", data.same_bytes_on_both_sides),
        ("3% of gallery rows from another model", "foreign rows", gallery),
    ]
    findings = []
    cosine = _cosine(base, base.subject("as-it-is", other))
    for title, by, plant in checks:
        with tempfile.TemporaryDirectory() as folder:
            words = said(lambda: plant(base.dataset, Path(folder)))  # noqa: B023
        findings.append(Finding(title, bool(words), by, words or "nothing", cosine, _gate(cosine)))
    return findings


def said(check: Callable[[], tuple[str, ...]]) -> str:
    """The words of a refusal or a warning; empty when the check has nothing to say."""
    try:
        return "; ".join(check())
    except KinspaceError as error:
        return str(error)


def unplanted(base: models.Base, cloud: CandidateFolder, report: Report) -> list[str]:
    """What is said of the family as it is: anything here is a false alarm."""
    alarms = [
        f"{name}: {words}"
        for subject in models.healthy(base)
        for name in (subject.name,)
        for _, words in _refusals(report, name)
    ]
    alarms += [said(lambda: check_leakage(base.dataset))]
    with tempfile.TemporaryDirectory() as folder:
        plant = partial(data.two_model_gallery, base.dataset, Path(folder), cloud, share=0.0)
        alarms.append(said(lambda: plant(base.open(base.blob("onnxruntime/fp32")), _space(base))))
    return [each for each in alarms if each]


def main(
    workspace: Annotated[Path, typer.Option(help="of a finished demo")] = Path("runs/demo"),
    family: Annotated[Path, typer.Option(help="its TOML, for the rules")] = Path(
        "registry/demo.toml"
    ),
    images: Annotated[Path, typer.Option(help="its data set")] = Path("registry/demo_pack"),
    member: Annotated[str, typer.Option(help="healthy member that faults go into")] = "edge-l",
    cloud: Annotated[str, typer.Option(help="the gallery model")] = "cloud",
) -> None:
    """Plant every fault; exit 1 unless all are caught and nothing healthy is refused."""
    artifacts = Workspace(workspace).artifacts
    base = models.Base(CandidateFolder(artifacts / member), read_dataset(images))
    gallery_model = CandidateFolder(artifacts / cloud)
    faults = model_faults(base)
    [subject] = subjects_of(gallery_model, _space(base))
    report = measured(base, subject, faults, read_family(family).policy)
    findings = [judge_model(base, fault, report) for fault in faults]
    findings += [moving_average(base), *data_findings(base, gallery_model)]
    alarms = unplanted(base, gallery_model, report)
    healthy = [
        f"{each.name} {_reported_cosine(report, each.name):.4f}" for each in models.healthy(base)
    ]
    publish_table(
        "planted_faults",
        "Planted faults: who catches what",
        [_row(each) for each in findings],
        notes=(
            f"Caught: {sum(each.caught for each in findings)} of {len(findings)}. The cosine gate "
            f"asks for a mean parity cosine of {COSINE_GATE}.",
            f"Unplanted: {'; '.join(alarms) or 'everything passes'}. Parity cosines of the healthy "
            f"files: {', '.join(healthy)}.",
            f"The model that loses one class, and the healthy one, in the mean: {_means(report)}.",
        ),
    )
    if alarms or not all(each.caught for each in findings):
        raise typer.Exit(1)


def _means(report: Report) -> str:
    """Cross-test mAP of the two."""
    found = {each.member: each.cross_test.map.value for each in report.artifacts}
    lost, healthy = found["loses-one-class"], found["healthy-onnxruntime-fp32"]
    return f"cross-test mAP {lost:.4f} against {healthy:.4f}"


def _row(finding: Finding) -> dict[str, object]:
    return {
        "planted": finding.fault,
        "caught": finding.caught,
        "by": finding.by,
        "in these words": finding.words,
        "parity cosine": finding.cosine,
        f"a cosine gate at {COSINE_GATE}": finding.gate_says,
    }


if __name__ == "__main__":
    typer.run(main)
