"""What a runtime is: a loaded file that turns image tensors into raw embeddings."""

from typing import Protocol

from compat.preprocess import Floats


class Runtime(Protocol):
    """One loaded artifact. Every artifact has one graph: image in, channels last; embedding out."""

    @property
    def size_px(self) -> int:
        """Side of the square images that the graph takes."""
        ...

    @property
    def dim(self) -> int:
        """Length of the embeddings that the graph gives."""
        ...

    @property
    def version(self) -> str:
        """Of the runtime's package."""
        ...

    @property
    def provider(self) -> str:
        """Who computes the graph here: an execution provider, or a delegate."""
        ...

    def run(self, tensors: Floats) -> Floats:
        """(N, S, S, 3) float32 normalised -> (N, D) float32, raw; N >= 1.

        The caller checks the shape and makes unit rows.
        """
        ...
