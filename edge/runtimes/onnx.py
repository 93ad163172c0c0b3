"""ONNX Runtime behind the port: one session on the processor, sequential, any batch."""

import os

import numpy as np

from compat.errors import CorruptError, MissingExtraError, UntrustedError, UsageError
from compat.preprocess import Floats

# where weights outside the file are looked for; left unset, it is the folder the process stands in
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_BATCH = 16  # bounds the memory of a long call; larger batches are no faster (docs/adr/0005)


class OnnxRuntime:
    """An ONNX file whose one input is (N, S, S, 3) and whose one output is (N, D), both float32."""

    def __init__(self, blob: bytes, *, threads: int = 1) -> None:
        """Load from bytes; a graph that names a second file for its weights is refused.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            CorruptError: the bytes do not load. Remedy: fetch the artifact again.
            UntrustedError: they hold another graph.
        """
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        except ImportError as error:
            raise MissingExtraError("running ONNX files", "device", "onnxruntime") from error
        self._failures = (
            state.EPFail,
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.InvalidProtobuf,
            state.NotImplemented,
            state.RuntimeException,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry(_WEIGHTS_FOLDER, f"{os.devnull}/nowhere")
        options.log_severity_level = 4  # fatal: errors are raised, not also printed
        try:
            self._session = onnxruntime.InferenceSession(
                blob, options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise CorruptError(f"ONNX Runtime cannot load the artifact: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        match [(each.type, *each.shape) for each in (*inputs, *outputs)]:
            case [
                ("tensor(float)", _, int(height), int(width), 3),
                ("tensor(float)", _, int(dim)),
            ] if height == width and len(inputs) == 1:
                self.size_px: int = height
                self.dim: int = dim
            case found:
                raise UntrustedError(
                    f"the artifact's graph is not (N, S, S, 3) -> (N, D) float32 but {found}"
                )
        self._image = inputs[0].name
        self.version: str = onnxruntime.__version__
        self.provider: str = self._session.get_providers()[0]

    def run(self, tensors: Floats) -> Floats:
        """(N, S, S, 3) float32 -> (N, D) float32, raw. Raises UsageError when it cannot."""
        parts = []
        for start in range(0, len(tensors), _BATCH):
            try:
                parts += self._session.run(None, {self._image: tensors[start : start + _BATCH]})
            except self._failures as error:
                raise UsageError(f"ONNX Runtime cannot run the artifact: {error}") from error
        raw: Floats = np.concatenate(parts)
        return raw
