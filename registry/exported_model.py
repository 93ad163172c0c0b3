"""An exported file that embeds data set images: what a number that is signed was measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compat.dataset import LabelledImage
from compat.embedding import Embedder, embed_pixels
from compat.manifest import Artifact
from compat.preprocess import Floats
from compat.upgrade_report import Exported
from edge.embedder import open_embedder
from registry.candidate import CandidateFolder
from server_models.pixels import decode_all


@dataclass(frozen=True)
class ExportedModel:
    """One file of one model."""

    name: str
    artifact: Artifact
    embedder: Embedder

    @property
    def digest(self) -> str:
        return self.artifact.digest

    @property
    def exported(self) -> Exported:
        file = self.artifact
        return Exported(digest=file.digest, runtime=file.runtime, precision=file.precision)

    def embed(self, images: Sequence[LabelledImage]) -> Floats:
        """(N, D), rows of L2 norm 1."""
        recipe = self.embedder.preprocess
        pixels = decode_all(images, recipe, title=f"decode for {self.name}").pixels
        return np.concatenate(list(embed_pixels(self.embedder, pixels)))


def exported_models(artifacts: Path, name: str, dim: int) -> tuple[ExportedModel, ...]:
    """Every file of the model ``name`` in a workspace's folder; none when it was not exported.

    Raises:
        CorruptError: what was exported is damaged. Remedy: export again.
    """
    folder = CandidateFolder(artifacts / name)
    if not (folder.path / "model.json").is_file():
        return ()
    model = folder.read()
    return tuple(
        ExportedModel(
            name, each, open_embedder(folder.file(each), each.runtime, model.preprocess, dim)
        )
        for each in model.artifacts
    )
