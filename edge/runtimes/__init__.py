"""Runtimes: ONNX Runtime and LiteRT behind the one port of ``port.Runtime``.

Both take the same tensors and are held to the same suite (tests/edge/test_runtimes.py). Their
packages are imported when a file is opened, so a device installs only the one that it uses.
"""

from typing import assert_never

from compat import manifest
from edge.runtimes.litert import LiteRtRuntime
from edge.runtimes.onnx import OnnxRuntime
from edge.runtimes.port import Runtime

__all__ = ["Runtime", "open_runtime"]


def open_runtime(blob: bytes, runtime: manifest.Runtime, *, threads: int = 1) -> Runtime:
    """Load an artifact's bytes into the runtime that the manifest names.

    Raises:
        MissingExtraError: the runtime's package is not installed.
        CorruptError: the runtime cannot load the bytes.
        UntrustedError: it loads them and finds another graph than (N, S, S, 3) -> (N, D) float32.
    """
    match runtime:
        case "onnxruntime":
            return OnnxRuntime(blob, threads=threads)
        case "litert":
            return LiteRtRuntime(blob, threads=threads)
        case _:
            assert_never(runtime)
