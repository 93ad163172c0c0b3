"""An upgrade under load: searches go on while a gallery is embedded again, killed, rolled back.

    python -m benchmarks.upgrade_under_load

Two real releases of the demo's space: the gallery of 1.0.0 is made by a small network, 2.0.0
brings the demo's cloud model. Two query models search `kinspace serve` without a pause: one that
the matrix admits to both generations, one that the gate admitted to the old gallery only. Meanwhile
`kinspace gallery backfill` runs, is killed (SIGKILL), resumed, stopped (SIGTERM), resumed to its
end and rolled back. Exit 1 when a request failed, an answer held a forbidden row, or the rollback
did not give back every row. Writes benchmarks/results/upgrade_under_load.md, .json and .svg.
"""

import argparse
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.data.cache import cache_folder
from benchmarks.tables import RESULTS, publish_table
from benchmarks.two_releases import FAMILY, QUERY_MODELS, prepare
from benchmarks.under_load import REFUSED, Searcher, Watched, watch
from compat.files import write_atomic
from compat.matrix import CompatibilityMatrix
from registry.gallery import Gallery
from registry.gallery_life import content_digest
from registry.local_release import LocalRelease
from registry.storage.files import FileStore
from registry.workspace import Workspace

COLOURS = ("#c2410c", "#1d4ed8")


@dataclass(frozen=True)
class Scene:
    """Where a published upgrade lies, and the gallery that it has not reached yet."""

    registry: Path
    gallery: Path
    family: str
    data: Path


@dataclass(frozen=True)
class Told:
    """What happened to a scene."""

    watched: Watched
    matrix: CompatibilityMatrix
    digest_before: str
    digest_after: str

    def faults(self, searchers: Sequence[Searcher]) -> list[str]:
        """What must not have happened, in words."""
        found = [f"{len(self.watched.failed)} requests failed"] if self.watched.failed else []
        if forbidden := self.watched.forbidden(self.matrix, searchers):
            found.append(f"{len(forbidden)} answers held a row that the matrix forbids")
        if self.digest_before != self.digest_after:
            found.append("the rollback did not give back every row")
        return found


# Started before the story begins and held until they are needed: what is seen is work, not imports.
HELD = """
import sys
import compat.dataset, edge.embedder, onnxruntime
import registry.backfill, registry.cli, registry.gallery_life, registry.local_release
import registry.storage.address
sys.stdin.readline()
registry.cli.main()
"""


class Cast:
    """The processes of the story, each a ``kinspace`` that waits for its turn."""

    def __init__(self, scene: Scene, stack: ExitStack, *, batch: int) -> None:
        serve = ["serve", "--registry", str(scene.registry), "--gallery", str(scene.gallery)]
        serve += ["--family", scene.family, "--images", str(scene.data.parent), "--port", "0"]
        backfill = [*_gallery_command("backfill", scene), "--batch", str(batch)]
        backfill += ["--registry", str(scene.registry), "--family", scene.family]
        backfill += ["--data", str(scene.data)]
        commands = [serve, *[backfill] * 3, _gallery_command("rollback", scene)]
        self.server, self.killed, self.stopped, self.finished, self.undone = (
            stack.enter_context(_held(each)) for each in commands
        )
        for each in (self.server, self.killed, self.stopped, self.finished, self.undone):
            stack.callback(each.kill)


def tell(scene: Scene, cast: Cast, searchers: Sequence[Searcher], *, pause_s: float) -> Told:
    """Serve, search, backfill, kill, resume, stop, resume, roll back."""
    with TemporaryDirectory() as scratch:
        release = LocalRelease(FileStore(scene.registry), scene.family, Path(scratch))
    assert release.matrix is not None
    before = content_digest(Gallery.open(scene.gallery))
    url = _go(cast.server).readline().strip()
    with watch(url, release.manifest.space.id, searchers) as watched:
        time.sleep(pause_s)
        watched.note("backfill")
        _run(cast.killed, until=0.3, then=signal.SIGKILL)
        watched.note("SIGKILL")
        time.sleep(pause_s)
        watched.note("resumed")
        _run(cast.stopped, until=0.7, then=signal.SIGTERM)
        watched.note("SIGTERM")
        time.sleep(pause_s)
        watched.note("resumed")
        _run(cast.finished, until=1.0, then=None)
        watched.note("done")
        time.sleep(pause_s)
        watched.note("rollback")
        _run(cast.undone, until=1.0, then=None)
        time.sleep(pause_s)
    return Told(watched, release.matrix, before, content_digest(Gallery.open(scene.gallery)))


def _gallery_command(verb: str, scene: Scene) -> list[str]:
    return ["gallery", verb, "--gallery", str(scene.gallery), "--json"]


def _held(command: list[str]) -> "subprocess.Popen[str]":
    """``kinspace`` with this command, as soon as it is told to."""
    python = [sys.executable, "-c", HELD, *command]
    return subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _go(process: "subprocess.Popen[str]") -> IO[str]:
    """Let a held process go; what it says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process.stdout


def _run(process: "subprocess.Popen[str]", *, until: float, then: signal.Signals | None) -> None:
    """Let it go; send a signal when this share is done, or let it come to its end."""
    said = _go(process)
    for line in said:
        step = json.loads(line)
        if then is not None and step["done"] >= until * step["total"]:
            process.send_signal(then)
            break
    said.read()
    expected = {None: 0, signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}
    if process.wait() != expected[then]:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")


def plot(told: Told, searchers: Sequence[Searcher]) -> bytes:
    """SVG: accuracy and refusals over time, and what happened when."""
    with mpl.rc_context({"svg.hashsalt": "kinspace", "font.size": 9.5}):
        figure = Figure(figsize=(8.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for searcher, colour in zip(searchers, COLOURS, strict=True):
            seen = told.watched.of(searcher.name)
            rates = [(o.at_s, o.hit_rate_at_10) for o in seen if o.hit_rate_at_10 is not None]
            axes.plot(
                [at_s for at_s, _ in rates],
                [rate for _, rate in rates],
                ".",
                color=colour,
                label=f"{searcher.name}: answered",
            )
            refused = [each.at_s for each in seen if each.status == REFUSED]
            if refused:
                axes.plot(refused, [0] * len(refused), "x", color=colour,
                          label=f"{searcher.name}: refused")  # fmt: skip
        axes.set_ylim(-0.03, 1.0)
        for at_s, event in told.watched.events:
            axes.axvline(at_s, color="grey", linewidth=0.8)
            axes.annotate(event, (at_s, 0.99), rotation=90, va="top", ha="right", color="grey")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("seconds")
        axes.set_ylabel("hit_rate@10 of what the service answers")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.06))
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def rows_of(told: Told, searchers: Sequence[Searcher]) -> list[dict[str, object]]:
    """One row for each stretch between two events and each searcher."""
    marks = [(0.0, "start"), *told.watched.events]
    ends = [at_s for at_s, _ in marks[1:]] + [float("inf")]
    rows: list[dict[str, object]] = []
    for (begin, event), end in zip(marks, ends, strict=True):
        for searcher in searchers:
            seen = [o for o in told.watched.of(searcher.name) if begin <= o.at_s < end]
            answered = [o for o in seen if o.hit_rate_at_10 is not None]
            rows.append(
                {
                    "after": event,
                    "query model": searcher.name,
                    "passes": len(seen),
                    "failed": sum(o.status not in (200, REFUSED) for o in seen),
                    "refused": sum(o.status == REFUSED for o in seen),
                    "hit_rate@10, last": answered[-1].hit_rate_at_10 if answered else None,
                    "rows left out, most": max((o.left_out for o in answered), default=0),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="demo", help="folder of the trained models, in the cache")
    parser.add_argument("--out", default="under-load", help="folder of the releases, in the cache")
    given = parser.parse_args()
    runs = cache_folder() / "runs"
    made = Workspace(runs / given.out)
    scene = Scene(made.registry, made.gallery, FAMILY, made.root / "data" / "manifest.csv")
    with ExitStack() as stack:
        cast = Cast(scene, stack, batch=16)
        searchers = prepare(runs / given.run, made)
        told = tell(scene, cast, searchers, pause_s=15)
    faults = told.faults(searchers)
    n_passes = len(told.watched.seen)
    notes = (
        f"{n_passes} passes of {len(searchers[0].labels)} queries, "
        f"{len(told.watched.failed)} failed. The matrix admits {QUERY_MODELS[0]} to both "
        f"generations and {QUERY_MODELS[1]} to the old one only: its answers leave the new rows "
        "out, and it is refused when no old row is left. After the rollback sha256 over all rows "
        f"is {'what it was' if told.digest_before == told.digest_after else 'another'}.",
    )
    publish_table("upgrade_under_load", "An upgrade under load", rows_of(told, searchers),
                  notes=notes)  # fmt: skip
    write_atomic(RESULTS / "upgrade_under_load.svg", plot(told, searchers))
    if faults:
        sys.exit("; ".join(faults))


if __name__ == "__main__":
    main()
