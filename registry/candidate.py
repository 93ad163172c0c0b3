"""A candidate: exported models on disk, described as a release would describe them, not yet judged.

``artifacts/<model>/model.json`` is the manifest's `Model`; its artifacts lie beside it, named by
digest. ``reference.npy`` holds what the training framework computes for the held-out queries.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from compat.arrays import read_array, write_array
from compat.errors import CorruptError
from compat.files import digest_of, read_bounded, read_digested, write_atomic
from compat.manifest import SUFFIX, Artifact, Model, Precision, Runtime
from compat.preprocess import Floats, Preprocess
from compat.wire import canonical_json

MAX_MODEL_JSON_BYTES = 2**20
MAX_ARTIFACT_BYTES = 2**31

# What golden embeddings must reach on a device: other processors round int8 differently.
ADMISSION_COSINE: dict[Precision, float] = {"fp32": 0.999, "fp16": 0.999, "int8": 0.97}


@dataclass(frozen=True)
class CandidateFolder:
    """Where one model's exported files lie."""

    path: Path

    def write(
        self,
        *,
        name: str,
        preprocess: Preprocess,
        macs: int,
        params: int,
        exported: dict[tuple[Runtime, Precision], bytes],
    ) -> Model:
        """Store the files by digest, then the description that makes them a candidate."""
        artifacts = []
        for (runtime, precision), blob in exported.items():
            artifact = Artifact(
                digest=digest_of(blob),
                size_bytes=len(blob),
                runtime=runtime,
                precision=precision,
                admission_cosine=ADMISSION_COSINE[precision],
            )
            write_atomic(self.file(artifact), blob)
            artifacts.append(artifact)
        model = Model(
            name=name,
            preprocess=preprocess,
            macs=macs,
            params=params,
            artifacts=tuple(artifacts),
        )
        write_atomic(self.path / "model.json", canonical_json(model.model_dump(mode="json")))
        return model

    def read(self) -> Model:
        """Raises UsageError when nothing was exported here, CorruptError when it is damaged."""
        blob = read_bounded(self.path / "model.json", MAX_MODEL_JSON_BYTES)
        try:
            return Model.model_validate_json(blob)
        except ValidationError as error:
            raise CorruptError(f"{self.path / 'model.json'} is damaged: export again") from error

    def file(self, artifact: Artifact) -> Path:
        return self.path / f"{artifact.digest}.{SUFFIX[artifact.runtime]}"

    def blob(self, artifact: Artifact) -> bytes:
        """The artifact's bytes, proven by their digest."""
        return read_digested(self.file(artifact), artifact.digest, MAX_ARTIFACT_BYTES)

    def write_reference(self, embeddings: Floats) -> None:
        write_array(self.path / "reference.npy", embeddings)

    def reference(self) -> Floats | None:
        """(Nq, D) of the training framework; None for a model that was exported without."""
        path = self.path / "reference.npy"
        return read_array(path) if path.exists() else None
