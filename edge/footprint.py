"""What an artifact costs on this machine: time and memory of a process that holds nothing else.

    python -m edge.footprint model.onnx onnxruntime '{"size_px": 64}' 128 50 1

prints the JSON of a `Footprint`. `measure` starts exactly that, so the caller's own memory (torch,
a gallery) is not counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import ValidationError

from compat import manifest
from compat.errors import KinspaceError, UsageError
from compat.preprocess import Preprocess
from edge.embedder import open_embedder

_WARM_UP = 10
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Footprint:
    """Cost of one artifact: batch 1, a fresh process."""

    latency_ms_p50: float  # tensor -> embedding; decoding and resizing are not in it
    latency_ms_p95: float
    resident_bytes: int  # interpreter, numpy, runtime and model together, after the runs
    load_ms: float  # import of the runtime, load and check of the file


def measure(
    path: Path,
    runtime: manifest.Runtime,
    preprocess: Preprocess,
    dim: int,
    runs: int,
    *,
    threads: int = 1,
) -> Footprint:
    """Measure ``path`` in a process of its own, over ``runs`` timed embeddings of noise.

    Raises:
        UntrustedError, CorruptError, MissingExtraError, UsageError: as `open_embedder`.
    """
    if runs < 1:
        raise UsageError(f"runs must be at least 1, got {runs}")
    # its refusals are raised here, by class
    open_embedder(path, runtime, preprocess, dim, threads=threads)
    command = [sys.executable, "-m", "edge.footprint", str(path), runtime]
    command += [preprocess.model_dump_json(), str(dim), str(runs), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_S)
        return Footprint(**json.loads(done.stdout))
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"measuring {path} failed with status {error.returncode}: {said[-1] if said else ''}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"measuring {path} took over {_TIMEOUT_S:.0f} s: ask for fewer runs than {runs}"
        ) from error


def measure_here(
    path: Path,
    runtime: manifest.Runtime,
    preprocess: Preprocess,
    dim: int,
    runs: int,
    *,
    threads: int = 1,
) -> Footprint:
    """Measure in this process: honest only when nothing else was loaded into it."""
    started = time.perf_counter()
    embedder = open_embedder(path, runtime, preprocess, dim, threads=threads)
    load_ms = (time.perf_counter() - started) * 1e3
    shape = (1, preprocess.size_px, preprocess.size_px, 3)
    tensor = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    for _ in range(_WARM_UP):
        embedder.embed(tensor)
    times_ms = np.empty(runs)
    for i in range(runs):
        started = time.perf_counter()
        embedder.embed(tensor)
        times_ms[i] = (time.perf_counter() - started) * 1e3
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Footprint(
        latency_ms_p50=float(p50),
        latency_ms_p95=float(p95),
        resident_bytes=_resident_bytes(),
        load_ms=load_ms,
    )


def _resident_bytes() -> int:
    """Memory of this process that is in RAM now; where /proc is missing, its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: Sequence[str]) -> int:
    """Print the footprint as JSON; 0, or the exit code of the refusal."""
    parser = argparse.ArgumentParser(prog="edge.footprint", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("runtime", choices=get_args(manifest.Runtime))
    parser.add_argument("preprocess", help="the recipe as JSON")
    parser.add_argument("dim", type=int)
    parser.add_argument("runs", type=int)
    parser.add_argument("threads", type=int, nargs="?", default=1)
    given = parser.parse_args(arguments)
    try:
        recipe = Preprocess.model_validate_json(given.preprocess)
        found = measure_here(
            given.path, given.runtime, recipe, given.dim, given.runs, threads=given.threads
        )
    except (KinspaceError, ValidationError) as error:
        print(error, file=sys.stderr)
        return error.exit_code if isinstance(error, KinspaceError) else UsageError.exit_code
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
