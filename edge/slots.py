"""What a device holds on disk: blobs by digest, and one small file that says which of them run.

A slot is one admitted release; its blobs are shared with other slots, so nothing is fetched or kept
twice. The switch is one rename of ``current.json``, which names the running slot and the one
before: all of the new release is there before it, none of the old one is gone before it.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compat.errors import CorruptError, UsageError
from compat.files import digest_of, read_bounded, read_digested, write_atomic
from compat.golden import GoldenCheck
from compat.manifest import MAX_MANIFEST_BYTES, Artifact, Blob, ReleaseManifest, Version
from compat.matrix import MAX_MATRIX_BYTES, CompatibilityMatrix
from compat.space import Name
from edge.budget import Budget

MAX_STATE_BYTES = 2**20


class Slot(BaseModel):
    """One release as this device runs it: one artifact of one member, and how it was admitted."""

    model_config = ConfigDict(frozen=True)

    version: Version
    manifest: Blob
    member: Name
    artifact: Artifact
    golden: Blob
    check: GoldenCheck
    matrix: Blob | None = None  # None: the registry has none
    budget: Budget = Budget()  # under which it was chosen
    latency_ms: float | None = None  # measured here; None: no budget asked for it

    @property
    def blobs(self) -> tuple[Blob, ...]:
        needed = (self.manifest, self.artifact, self.golden)
        return needed if self.matrix is None else (*needed, self.matrix)

    @property
    def release(self) -> tuple[str, str, str]:
        """What runs; the matrix may change under it."""
        return self.manifest.digest, self.artifact.digest, self.golden.digest

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(each.digest for each in self.blobs)


class SlotState(BaseModel):
    """The slot that runs and the one that ran before it."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(default=1, ge=1, le=1)
    current: Slot
    previous: Slot | None = None

    def followed_by(self, slot: Slot) -> "SlotState":
        """The state after a switch to ``slot``; mending the running one keeps what was before."""
        same = slot.release == self.current.release
        return SlotState(current=slot, previous=self.previous if same else self.current)

    def with_matrix(self, matrix: Blob | None) -> "SlotState":
        """The state when the running release may query other galleries than before."""
        return self.model_copy(
            update={"current": self.current.model_copy(update={"matrix": matrix})}
        )


class Slots:
    """The slots under one folder.

    Every method raises UsageError when the disk does not let it read or write.
    """

    def __init__(self, home: Path) -> None:
        self._blobs = home / "blobs"
        self._state = home / "current.json"

    @property
    def state(self) -> SlotState | None:
        """What runs; None before the first update.

        Raises:
            CorruptError: the disk spoilt it. Remedy: update again.
        """
        if not self._state.exists():
            return None
        try:
            return SlotState.model_validate_json(read_bounded(self._state, MAX_STATE_BYTES))
        except ValidationError as error:
            raise CorruptError(
                f"{self._state} is damaged: run kinspace device update to mend it"
            ) from error

    def switch(self, state: SlotState) -> None:
        """Run ``state.current`` from now on: one rename."""
        write_atomic(self._state, state.model_dump_json(indent=2).encode() + b"\n")

    def put(self, blob: bytes) -> Blob:
        """Keep ``blob`` under its digest."""
        named = Blob(digest=digest_of(blob), size_bytes=len(blob))
        write_atomic(self.path(named), blob)
        return named

    def path(self, blob: Blob) -> Path:
        return self._blobs / blob.digest

    def read(self, blob: Blob) -> bytes:
        """The bytes that ``blob`` names.

        Raises:
            CorruptError: the disk spoilt them. Remedy: update again.
        """
        return read_digested(self.path(blob), blob.digest, blob.size_bytes)

    def holds(self, blob: Blob) -> bool:
        """Whether the blob is here, whole."""
        try:
            self.read(blob)
        except (CorruptError, UsageError):
            return False
        return True

    def is_intact(self, slot: Slot) -> bool:
        return all(self.holds(each) for each in slot.blobs)

    def manifest(self, slot: Slot) -> ReleaseManifest:
        if slot.manifest.size_bytes > MAX_MANIFEST_BYTES:
            raise CorruptError(f"{self._state} is damaged: run kinspace device update to mend it")
        return ReleaseManifest.from_bytes(self.read(slot.manifest))

    def matrix(self, slot: Slot) -> CompatibilityMatrix | None:
        """Raises CorruptError: the disk spoilt it. Remedy: update again."""
        if slot.matrix is None:
            return None
        if slot.matrix.size_bytes > MAX_MATRIX_BYTES:
            raise CorruptError(f"{self._state} is damaged: run kinspace device update to mend it")
        family = self.manifest(slot).family
        return CompatibilityMatrix.from_bytes(self.read(slot.matrix), family=family)

    def prune(self, *, wanted: frozenset[str]) -> None:
        """Remove every blob, and what a power cut left behind, that ``wanted`` does not name."""
        left = self._state.parent.glob(f".{self._state.name}.*.part")
        blobs = self._blobs.iterdir() if self._blobs.exists() else ()
        try:
            for path in (*left, *(each for each in blobs if each.name not in wanted)):
                path.unlink()
        except OSError as error:
            raise UsageError(f"cannot tidy {self._blobs}: {error.strerror or error}") from error
