"""LiteRT behind the port: one interpreter (XNNPACK), one image at a time."""

import threading
from typing import Any

import numpy as np

from compat.errors import CorruptError, MissingExtraError, UntrustedError, UsageError
from compat.preprocess import Floats


class LiteRtRuntime:
    """A TFLite file whose one input is (1, S, S, 3) and whose one output is (1, D), both float32.

    Images go through one by one: resizing the input to a batch was measured slower than the loop,
    and the loop gives an image the same embedding whatever it is batched with (docs/adr/0005).
    """

    def __init__(self, blob: bytes, *, threads: int = 1) -> None:
        """Load from bytes.

        Raises:
            MissingExtraError: ai-edge-litert is not installed.
            CorruptError: the bytes do not load. Remedy: fetch the artifact again.
            UntrustedError: they hold another graph.
        """
        try:
            import ai_edge_litert
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("running TFLite files", "device", "ai-edge-litert") from error
        try:
            self._interpreter = Interpreter(model_content=blob, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise CorruptError(f"LiteRT cannot load the artifact: {error}") from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shapes = [_shape(each) for each in inputs], [_shape(each) for each in outputs]
        match shapes:
            case [(1, height, width, 3)], [(1, dim)] if height == width and all(
                each["dtype"] is np.float32 for each in (*inputs, *outputs)
            ):
                self.size_px: int = height
                self.dim: int = dim
            case _:
                raise UntrustedError(
                    "the artifact's graph is not (1, S, S, 3) -> (1, D) float32 but "
                    f"{shapes[0]} -> {shapes[1]}"
                )
        self._image, self._embedding = inputs[0]["index"], outputs[0]["index"]
        self.version: str = ai_edge_litert.__version__
        self.provider = _provider(self._interpreter)
        self._lock = threading.Lock()  # an interpreter holds one image at a time

    def run(self, tensors: Floats) -> Floats:
        """(N, S, S, 3) float32 -> (N, D) float32, raw. Raises UsageError when it cannot."""
        rows = []
        with self._lock:
            for tensor in tensors:
                try:
                    self._interpreter.set_tensor(self._image, tensor[None])
                    self._interpreter.invoke()
                    rows.append(self._interpreter.get_tensor(self._embedding))  # (1, D)
                except (ValueError, RuntimeError) as error:
                    raise UsageError(f"LiteRT cannot run the artifact: {error}") from error
        raw: Floats = np.concatenate(rows)
        return raw


def _provider(interpreter: Any) -> str:
    """The one delegate that we let LiteRT apply, if it took any of the graph.

    There is no public question for it; the list of operators is what LiteRT's own profiler reads.
    """
    operators = {each["op_name"] for each in interpreter._get_ops_details()}
    return "XNNPACK" if "DELEGATE" in operators else "built-in kernels"


def _shape(details: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in details["shape"])
