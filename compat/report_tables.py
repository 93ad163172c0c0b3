"""What the tables of the page say, as rows: rules, parts of the test set, tests. Pure."""

from dataclasses import dataclass

from compat.policy import Outcome
from compat.report import ArtifactEvidence, Report, UnmeasuredArtifact
from compat.report_parts import Estimate
from compat.slices import CLASS, SliceEvidence
from compat.stress import StrangeInput, StressSection

SURE = 0.05  # adjusted p-value below which a part is said to lose


@dataclass(frozen=True)
class MatrixRow:
    """One query model: M(q, q) and M(q, g). Of the paragon both are M(g, g)."""

    query_model: str
    own: Estimate
    cloud: Estimate
    is_paragon: bool


def matrix_of_tests(report: Report) -> tuple[MatrixRow, ...]:
    """Query models by gallery models, in mAP, the paragon first."""
    best = report.cloud.paragon.map
    rows = [MatrixRow(report.cloud.name, best, best, is_paragon=True)]
    rows += [
        MatrixRow(each.label, each.self_test.map, each.cross_test.map, is_paragon=False)
        for each in report.artifacts
    ]
    return tuple(rows)


@dataclass(frozen=True)
class SliceRow:
    """One part of the queries over all artifacts; None where an artifact has no such row."""

    name: str
    queries: int
    cells: tuple[SliceEvidence | None, ...]  # in the order of the report's artifacts
    is_class: bool


def slice_rows(report: Report) -> tuple[SliceRow, ...]:
    """Every part of every artifact, in the order of the section, classes last."""
    if report.slices is None:
        return ()
    found = {(row.artifact, row.name): row for row in report.slices.rows}
    classes = {row.name for row in report.slices.rows if row.column == CLASS}
    names = [row.name for row in report.slices.rows if row.column != CLASS]
    names = [*dict.fromkeys(names), *sorted(classes)]
    rows = []
    for name in names:
        cells = tuple(found.get((each.digest, name)) for each in report.artifacts)
        counted = max(cell.difference.counted for cell in cells if cell is not None)
        rows.append(SliceRow(name, counted, cells, name in classes))
    return tuple(rows)


def tone(cell: SliceEvidence) -> str:
    """How a part reads: it surely loses, it cannot tell, or neither."""
    if not cell.is_deciding:
        return "unsure"
    return "lost" if cell.difference.high < 0 and cell.p_adjusted < SURE else ""


@dataclass(frozen=True)
class StrangeTable:
    """Kinds of images that show nothing, model by model."""

    models: tuple[str, ...]
    real: tuple[float, ...]  # mean best cosine of real queries, model by model
    rows: tuple[tuple[str, tuple[StrangeInput | None, ...]], ...]  # kind, and its cells


def strange_rows(section: StressSection) -> StrangeTable:
    """The section's strange inputs, kinds by models."""
    found = {(each.kind, each.model): each for each in section.strange}
    real = {each.model: each.real_best_score_mean for each in section.strange}
    kinds = dict.fromkeys(each.kind for each in section.strange)
    rows = tuple((kind, tuple(found.get((kind, model)) for model in real)) for kind in kinds)
    return StrangeTable(models=tuple(real), real=tuple(real.values()), rows=rows)


@dataclass(frozen=True)
class Objection:
    """An artifact and the rules that did not simply pass."""

    label: str
    is_admitted: bool
    outcomes: tuple[Outcome, ...]  # failed, undecided or overridden
    reasons: tuple[str, ...]  # of an artifact that was never measured, so has no outcomes


def objections(report: Report) -> tuple[Objection, ...]:
    """Every artifact with a rule that failed, could not decide or was overridden."""
    found = []
    judged: tuple[ArtifactEvidence | UnmeasuredArtifact, ...]
    judged = (*report.artifacts, *report.unmeasured)
    for each in judged:
        against = tuple(one for one in each.verdict.outcomes if one.status != "passed")
        reasons = () if against else each.verdict.reasons
        if against or reasons or not each.verdict.admitted:
            found.append(Objection(each.label, each.verdict.admitted, against, reasons))
    return tuple(found)


def overrides(report: Report) -> int:
    """Rules that hold only because somebody answers for them, over all artifacts."""
    return sum(_overridden(each) for each in report.artifacts)


def _overridden(artifact: ArtifactEvidence) -> int:
    return sum(one.status == "overridden" for one in artifact.verdict.outcomes)
