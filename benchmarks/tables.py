"""Results that are committed: one Markdown table for people and the same rows as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from compat.files import write_atomic
from compat.wire import canonical_json

RESULTS = Path(__file__).parent / "results"
Row = Mapping[str, object]


def publish_table(
    name: str, title: str, rows: Sequence[Row], *, notes: Sequence[str] = (), out: Path = RESULTS
) -> None:
    """Print ``rows`` and write them to ``out``/``name``.md and .json; columns are their keys."""
    shown = Table(title=title, show_lines=True)
    for column in rows[0]:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*map(_words, row.values()))
    console = Console()
    console.print(shown)
    for note in notes:
        console.print(note)
    columns = list(rows[0])
    lines = [f"# {title}", "", *(f"{note}\n" for note in notes)]
    lines += [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([_words(value) for value in row.values()]) for row in rows]
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / f"{name}.md", ("\n".join(lines) + "\n").encode())
    found = {"title": title, "notes": list(notes), "rows": [dict(row) for row in rows]}
    write_atomic(out / f"{name}.json", canonical_json(found))


def _words(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
