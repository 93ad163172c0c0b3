"""A fleet takes a staged rollout over bad lines, a bad release comes, and it halts by itself.

    python -m benchmarks.fleet

Devices are simulated, their code is not: each has a home folder, asks a real HTTP server on
loopback, believes what TUF lets it believe and runs ONNX Runtime on small linear models. The line
drops, cuts off and stalls answers; clocks are wrong; on the devices of one chip the third release
computes another function, which their golden check sees. Every device reports into a folder, and
what ``kinspace rollout check`` runs looks at it every so often. Nobody else acts. Writes
benchmarks/results/fleet.md and .json; exit 1 when the bad release was not taken back, a good one
was, or a device is left without a working release.
"""

import datetime
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated
from unittest.mock import patch

import typer
from rich.progress import track
from tuf.ngclient._internal import trusted_metadata_set

import edge.device
from benchmarks.fleet_family import (
    FAMILY,
    RECIPE,
    Small,
    photo,
    sign_small,
    small_release,
)
from benchmarks.fleet_link import Line, Served, served_badly
from benchmarks.tables import RESULTS, publish_table
from compat.embedding import Embedder, cosine_rows
from compat.errors import KinspaceError, OfflineError, UntrustedError
from compat.files import write_atomic
from compat.manifest import HaltRule, Runtime
from compat.preprocess import Floats, Preprocess
from compat.terminal import STDERR
from edge.device import STABLE, Device
from edge.embedder import open_embedder
from edge.report import report_update
from registry.channels import promote, read_channel
from registry.keys import KeyFolder
from registry.repository import Repository
from registry.rollout_check import check_rollout

BAD_CHIPS = 0.6  # share of devices on which the bad release computes another function
DAY_S = 86_400.0
SKEWS_S = {3 * DAY_S: 0.03, -400 * DAY_S: 0.05, 3 * 3600.0: 0.2, -3 * 3600.0: 0.2}  # seconds: share
TRIES = 12  # of one update over the bad line, before the device gives up for this round
THREADS = 16
_skew = threading.local()


@dataclass(frozen=True)
class Plan:
    """How many devices, how the releases are staged, and how the fleet is watched."""

    devices: int = 1000
    seed: int = 20210619
    good_percent: float = 20.0
    bad_percent: float = 5.0
    every: int = 50  # devices between two looks at the reports
    rule: HaltRule = field(default_factory=HaltRule)
    line: Line = field(default_factory=Line)


@dataclass
class Simulated:
    """One device, and what is wrong with it."""

    name: str
    device: Device
    is_bad_chip: bool
    skew_s: float


@dataclass
class Round:
    """What became of one round, in which every device updates once."""

    name: str
    runs: Counter[str] = field(default_factory=Counter)  # release -> devices at the end
    ends: Counter[str] = field(default_factory=Counter)  # how devices' updates ended
    spoilt: int = 0  # tries that the line spoilt
    halted_after: int | None = None  # devices updated when the rollout was taken back
    judged: str = ""  # failures of devices that had reported, when it was last looked at
    seconds: float = 0.0

    def as_row(self) -> dict[str, object]:
        runs = ", ".join(f"{version}: {count}" for version, count in sorted(self.runs.items()))
        return {
            "round": self.name,
            "devices by release": runs,
            "tries the line spoilt": self.spoilt,
            "clock refused": self.ends["untrusted"],
            "offline to the end": self.ends["offline"],
            "golden check failed": self.ends["failed"],
            "fails / reported": self.judged or None,
            "taken back after devices": self.halted_after,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class Watch:
    """What looks at the reports while a round goes on."""

    repository: Repository
    reports: Path
    every: int  # devices


class Skewed(datetime.datetime):
    """The clock of the device at work in this thread."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Skewed":
        shift = datetime.timedelta(seconds=getattr(_skew, "seconds", 0.0))
        found = datetime.datetime.now(tz) + shift
        return cls.combine(found.date(), found.timetz())


@contextmanager
def wrong_clocks() -> Iterator[None]:
    """TUF and the device ask `Skewed`; everybody else has the right time."""
    of_tuf = SimpleNamespace(datetime=Skewed, timezone=datetime.timezone)
    with (
        patch.object(trusted_metadata_set, "datetime", of_tuf),
        patch.object(edge.device, "datetime", Skewed),
    ):
        yield


@dataclass(frozen=True)
class OtherChip:
    """Computes another function: dimensions in another order."""

    inner: Embedder

    @property
    def preprocess(self) -> Preprocess:
        return self.inner.preprocess

    @property
    def dim(self) -> int:
        return self.inner.dim

    def embed(self, tensors: Floats) -> Floats:
        return self.inner.embed(tensors)[:, ::-1]


def simulate(plan: Plan, work: Path) -> list[Round]:
    """All rounds of a fleet whose homes lie in ``work``.

    Raises:
        RuntimeError: a device is left without a working release.
    """
    rng = random.Random(plan.seed)
    repository = Repository(work / "registry", KeyFolder(work / "keys"))
    repository.create()
    repository.add_family(FAMILY)
    releases = {f"1.{i}.0": small_release(f"1.{i}.0", seed=i) for i in range(3)}
    for small in releases.values():
        sign_small(repository, small)
    promote(repository, FAMILY, "1.0.0")
    bad = frozenset(releases["1.2.0"].blobs)
    watch = Watch(repository, work / "reports", plan.every)
    rounds = []
    with served_badly(work / "registry", plan.line, plan.seed) as served, wrong_clocks():
        fleet = [_new(work, served, repository, rng, i, bad) for i in range(plan.devices)]
        rounds.append(_round("1.0.0 is installed", fleet, rng, None))
        for each in fleet:
            each.skew_s = _drawn_skew(rng)

        promote(repository, FAMILY, "1.1.0", percent=plan.good_percent, halt=plan.rule)
        name = f"1.1.0, which is good, at {plan.good_percent:g}%"
        rounds.append(_round(name, fleet, rng, watch))

        promote(repository, FAMILY, "1.1.0", percent=100)
        promote(repository, FAMILY, "1.2.0", percent=plan.bad_percent, halt=plan.rule)
        name = f"1.1.0 for all; 1.2.0, which is bad, at {plan.bad_percent:g}%"
        rounds.append(_round(name, fleet, rng, watch))

        rounds.append(_round("afterwards", fleet, rng, None))
    broken = [each.name for each in fleet if not _works(each, releases)]
    if broken:
        raise RuntimeError(f"without a working release: {broken}")
    return rounds


def _new(
    work: Path,
    served: Served,
    repository: Repository,
    rng: random.Random,
    i: int,
    bad: frozenset[str],
) -> Simulated:
    is_bad_chip = rng.random() < BAD_CHIPS

    def opened(path: Path, runtime: Runtime, preprocess: Preprocess, dim: int) -> Embedder:
        found = open_embedder(path, runtime, preprocess, dim)
        return OtherChip(found) if is_bad_chip and path.name in bad else found

    name = f"device-{i:04d}"
    device = Device(work / "homes" / name, open_embedder=opened, runtimes=("onnxruntime",))
    device.init(served.url, repository.trusted_root, FAMILY)
    return Simulated(name, device, is_bad_chip, 0.0)


def _drawn_skew(rng: random.Random) -> float:
    chance = rng.random()
    for skew_s, share in SKEWS_S.items():
        if chance < share:
            return skew_s
        chance -= share
    return 0.0


def _round(name: str, fleet: list[Simulated], rng: random.Random, watch: Watch | None) -> Round:
    """Every device updates once, in any order; a rollout is watched while they do."""
    found, started = Round(name), time.monotonic()
    order = rng.sample(fleet, len(fleet))
    step = watch.every if watch else len(fleet)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in track(range(0, len(order), step), name, console=STDERR, transient=True):
            some = order[start : start + step]
            for end, spoilt in pool.map(partial(_update, watch=watch), some):
                found.spoilt += spoilt
                found.ends[end] += 1
            if watch and found.halted_after is None:
                _look(watch, found, start + len(some))
    for each in fleet:
        current = each.device.status().current
        found.runs[current.version if current else "none"] += 1
    found.seconds = time.monotonic() - started
    return found


def _update(each: Simulated, watch: Watch | None) -> tuple[str, int]:
    """How one device's update ended, and how many tries the line spoilt; it reports like an app."""
    _skew.seconds = each.skew_s
    end, spoilt = "offline", 0
    while spoilt < TRIES:
        try:
            outcome = each.device.update()
        except OfflineError:
            spoilt += 1
            continue
        except UntrustedError:
            end = "untrusted"
        except KinspaceError:
            end = "failed"
        else:
            end = "failed" if outcome.refused else "updated"
        break
    if watch and end in ("updated", "failed"):
        write_atomic(watch.reports / each.name, report_update(each.device.home))
    return end, spoilt


def _look(watch: Watch, found: Round, updated: int) -> None:
    """What an operator runs from cron: ``kinspace rollout check``."""
    channel = read_channel(watch.repository, FAMILY, STABLE)
    if channel is None or not channel.rollouts:
        return
    check = check_rollout(watch.repository, FAMILY, STABLE, watch.reports)
    found.judged = f"{check.failures.failed} / {check.failures.devices}"
    if check.halted:
        found.halted_after = updated


def _works(each: Simulated, releases: dict[str, Small]) -> bool:
    """Whether the release that runs gives here what its publisher measured."""
    active = each.device.active()
    rows = each.device.embedder().embed(RECIPE.tensor(photo())[None])
    return bool(cosine_rows(rows, releases[active.manifest.version].expected).min() > 0.999)


def main(
    devices: Annotated[int, typer.Option(min=400, help="in the fleet")] = Plan.devices,
    seed: int = Plan.seed,
    out: Annotated[Path, typer.Option(help="where the table is written")] = RESULTS,
) -> None:
    """Run the fleet, print and write the table."""
    plan, memory = Plan(devices=devices, seed=seed), Path("/dev/shm")  # homes need no disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as work:
        rounds = simulate(plan, Path(work))
    line, seconds = plan.line, sum(each.seconds for each in rounds)
    notes = (
        f"`python -m benchmarks.fleet`: {devices} simulated devices, seed {seed}, {seconds:.0f} s.",
        f"Of the answers {line.dropped:.1%} are dropped, {line.cut:.1%} cut off and "
        f"{line.stalled:.2%} stall; a device tries {TRIES} times a round. From the second round on "
        + ", ".join(f"{share:.0%} of the clocks are {_words(by)}" for by, share in SKEWS_S.items())
        + f". 1.2.0 computes another function on {BAD_CHIPS:.0%} of the devices. Reports are "
        f"looked at after every {plan.every} devices; the rule is the default one.",
        "At the end every device embeds a photo, and the vector is what its release must give.",
    )
    publish_table(
        "fleet", "A staged rollout", [each.as_row() for each in rounds], notes=notes, out=out
    )
    if wrong := verdict(rounds):
        sys.exit(wrong)


def verdict(rounds: Sequence[Round]) -> str:
    """What went wrong; empty when nothing."""
    _, good, bad, after = rounds
    if good.halted_after is not None:
        return "the good release was taken back"
    if bad.halted_after is None:
        return "the bad release was not taken back"
    return "the bad release still runs somewhere" if _left(after, "1.2.0") else ""


def _left(found: Round, version: str) -> int:
    """Devices that run ``version`` although they could hear that it was taken back."""
    deaf = found.ends["offline"] + found.ends["untrusted"]
    return max(0, found.runs[version] - deaf)


def _words(seconds: float) -> str:
    size = abs(seconds)
    length = f"{size / DAY_S:.0f} days" if size >= DAY_S else f"{size / 3600:.0f} hours"
    return f"{length} {'ahead' if seconds > 0 else 'behind'}"


if __name__ == "__main__":
    typer.run(main)
