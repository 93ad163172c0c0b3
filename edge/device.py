"""A device: it takes all of what it needs from one release or nothing, and keeps what it had.

Order of an update: what the registry says (`edge.client`) -> which artifacts fit here (`choose`) ->
fetch one (`edge.acquire`) -> run the golden set on this very runtime -> switch by one rename. A
failure at any step, a power cut included, leaves the old release running; the next update goes on
from there. The device follows the channel, down as well as up: only its publisher can sign a
pointer to a lower version, and TUF refuses an older pointer (docs/adr/0003, docs/adr/0004).
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from compat.embedding import Embedder
from compat.errors import AdmissionError, CorruptError, KinspaceError, UsageError
from compat.files import read_bounded, write_atomic
from compat.golden import MAX_GOLDEN_BYTES, GoldenSet, admit, run_golden
from compat.manifest import Artifact, Blob, Member, ReleaseManifest, Runtime, canonical_json
from compat.preprocess import Preprocess
from edge.acquire import Acquirer
from edge.choice import choose, installed_runtimes
from edge.client import RegistryClient
from edge.lock import exclusive
from edge.records import DeviceConfig, LastUpdate, Status, UpdateOutcome, read_record
from edge.slots import Slot, Slots, SlotState
from edge.trusted import MAX_ROOT_BYTES

STABLE = "stable"  # the channel that devices follow
MAX_ARTIFACT_BYTES = 2**29


class OpenEmbedder(Protocol):
    """`edge.embedder.open_embedder`: an artifact file -> an embedder that runs it here."""

    def __call__(
        self, path: Path, runtime: Runtime, preprocess: Preprocess, dim: int
    ) -> Embedder: ...


class Active(NamedTuple):
    """The release that runs, and the artifact file of it that this device uses."""

    manifest: ReleaseManifest
    member: Member
    artifact: Artifact
    path: Path


class Device:
    """One device and its home folder.

    Args:
        home: where everything of this device lies.
        open_embedder: None = `edge.embedder.open_embedder`.
        runtimes: what it may use, the preferred one first; None = what is installed.
    """

    def __init__(
        self,
        home: Path,
        *,
        open_embedder: OpenEmbedder | None = None,
        runtimes: Sequence[Runtime] | None = None,
    ) -> None:
        self.home = home
        self._open_embedder = open_embedder
        self._runtimes = runtimes
        self._slots = Slots(home)

    def init(
        self,
        registry: str,
        root: bytes,
        family: str,
        *,
        member: str | None = None,
        runtime: Runtime | None = None,
    ) -> DeviceConfig:
        """Bind this home to a family of a registry, and to the root that is trusted from now on.

        Safe to repeat, also to name another mirror, member or runtime; root and family stay.

        Raises:
            UsageError: ``root`` is no root, or the home is bound to another root or family.
        """
        if "://" not in registry:
            registry = str(Path(registry).resolve())
        try:
            config = DeviceConfig(registry=registry, family=family, member=member, runtime=runtime)
        except ValidationError as error:
            raise UsageError(f"a device cannot be set up so: {error}") from error
        with exclusive(self.home / ".lock", "another update"):
            if (self.home / "device.json").exists():
                before = self.config()
                if before.family != family or self._root() != root:
                    raise UsageError(
                        f"{self.home} trusts another root or follows {before.family}: "
                        "take a new home folder"
                    )
            RegistryClient(registry, self.home / "trust", root)  # refuses what is no root
            write_atomic(self.home / "root.json", root)
            write_atomic(self.home / "device.json", canonical_json(config.model_dump(mode="json")))
        return config

    def update(self) -> UpdateOutcome:
        """Run the release that the channel names, if it is proven and works here.

        Raises:
            OfflineError: nobody answered.
            UntrustedError: the registry must not be believed.
            AdmissionError: no artifact of the release works on this device.
            UsageError: the home is not set up, its disk is full, or another update is at work.

        In every case what ran before still runs.
        """
        config = self.config()
        with exclusive(self.home / ".lock", "another update"):
            try:
                outcome = self._update(config)
            except KinspaceError as error:
                self._note(error)
                raise
            self._note(None)
            return outcome

    def active(self) -> Active:
        """The release that runs, its artifact proven to be whole.

        Raises:
            UsageError: there is none yet. Remedy: update.
            CorruptError: the disk spoilt it. Remedy: update.
        """
        state = self._slots.state
        if state is None:
            raise UsageError(f"{self.home} holds no release yet: kinspace device update")
        slot = state.current
        manifest = self._slots.manifest(slot)
        found = manifest.find_artifact(slot.artifact.digest)
        if found is None or not self._slots.holds(slot.artifact):
            raise CorruptError(f"release {slot.version} is damaged: kinspace device update")
        return Active(manifest, *found, self._slots.path(slot.artifact))

    def golden(self) -> GoldenSet:
        """What the active release must give here. Raises as `active`."""
        return GoldenSet.from_bytes(self._slots.read(self.active().member.golden))

    def embedder(self) -> Embedder:
        """The active artifact, ready to run. Raises as `active`."""
        manifest, member, artifact, path = self.active()
        return self._open(path, artifact.runtime, member.preprocess, manifest.space.dim)

    def status(self) -> Status:
        """Raises UsageError when the home is not set up, CorruptError when its state is damaged."""
        state = self._slots.state
        return Status(
            config=self.config(),
            current=state.current if state else None,
            previous=state.previous if state else None,
            last_update=self._read_last(),
        )

    def config(self) -> DeviceConfig:
        """Raises UsageError when the home is not set up."""
        path = self.home / "device.json"
        if not path.exists():
            raise UsageError(f"{self.home} is no device yet: kinspace device init")
        return read_record(path, DeviceConfig)

    def _root(self) -> bytes:
        return read_bounded(self.home / "root.json", MAX_ROOT_BYTES)

    def _update(self, config: DeviceConfig) -> UpdateOutcome:
        client = RegistryClient(config.registry, self.home / "trust", self._root())
        last = self._last()
        client.refresh(not_before=last.latest if last else None)
        version = client.channel(config.family, STABLE).version
        manifest = client.manifest(config.family, version)
        member, artifacts = choose(manifest, config.member, runtimes=self._usable(config))
        state = self._state_or_none()
        if state and self._runs(state.current, manifest, member, artifacts):
            return UpdateOutcome.of(state.current, changed=False)
        offered = {member.golden.digest, *(each.digest for each in artifacts)}
        self._slots.prune(wanted=_kept(state) | offered)  # before, so that the disk has room
        acquirer = Acquirer(client, self._slots, manifest, self._held(state))
        golden = acquirer.acquire(member.golden, MAX_GOLDEN_BYTES)
        refused: list[str] = []
        for artifact in artifacts:
            try:
                fetched = acquirer.acquire(artifact, MAX_ARTIFACT_BYTES)
                slot = self._admit(manifest, member, artifact)
            except AdmissionError as error:
                refused.append(f"{artifact.label}: {error}")
                continue
            state = state.followed_by(slot) if state else SlotState(current=slot)
            self._slots.switch(state)
            self._slots.prune(wanted=_kept(state))
            client.forget_parts()
            return UpdateOutcome.of(
                slot, changed=True, refused=tuple(refused), fetched=fetched, golden=golden
            )
        client.forget_parts()
        raise AdmissionError(
            f"release {version} does not work on this device, what ran before still runs: "
            + "; ".join(refused)
        )

    def _admit(self, manifest: ReleaseManifest, member: Member, artifact: Artifact) -> Slot:
        """Let an artifact that is here prove itself.

        Raises:
            AdmissionError: it fails; its bytes are the signed ones, so the fault is here.
        """
        golden = GoldenSet.from_bytes(self._slots.read(member.golden))
        try:
            embedder = self._open(
                self._slots.path(artifact), artifact.runtime, member.preprocess, manifest.space.dim
            )
            check = run_golden(golden, artifact.digest, embedder)
        except (UsageError, CorruptError) as error:  # it does not load, decode or embed here
            raise AdmissionError(str(error)) from error
        admit(check, artifact.admission_cosine)
        return Slot(
            version=manifest.version,
            manifest=self._slots.put(manifest.to_bytes()),
            member=member.name,
            artifact=artifact,
            golden=member.golden,
            check=check,
        )

    def _held(self, state: SlotState | None) -> dict[str, Blob]:
        """Files that are here, whole: what a delta may start from."""
        slots = (state.current, state.previous) if state else ()
        files = [file for slot in slots if slot for file in (slot.artifact, slot.golden)]
        return {each.digest: each for each in files if self._slots.holds(each)}

    def _runs(
        self, slot: Slot, manifest: ReleaseManifest, member: Member, artifacts: Sequence[Artifact]
    ) -> bool:
        """Whether ``slot`` is this release already, as it is wished, and whole."""
        if slot.member != member.name or slot.artifact not in artifacts:
            return False
        return self._slots.is_intact(slot) and self._slots.manifest(slot) == manifest

    def _usable(self, config: DeviceConfig) -> tuple[Runtime, ...]:
        runtimes = installed_runtimes() if self._runtimes is None else self._runtimes
        return tuple(each for each in runtimes if config.runtime in (None, each))

    def _state_or_none(self) -> SlotState | None:
        """A state that the disk spoilt counts as none: the update mends it."""
        try:
            return self._slots.state
        except CorruptError:
            return None

    def _open(self, path: Path, runtime: Runtime, preprocess: Preprocess, dim: int) -> Embedder:
        if self._open_embedder is None:
            from edge.embedder import open_embedder  # loads a runtime: only when it is needed

            self._open_embedder = open_embedder
        return self._open_embedder(path, runtime, preprocess, dim)

    def _last(self) -> LastUpdate | None:
        """How the last update ended; a record that the disk spoilt counts as none."""
        with contextlib.suppress(CorruptError):
            return self._read_last()
        return None

    def _read_last(self) -> LastUpdate | None:
        path = self.home / "last.json"
        return read_record(path, LastUpdate) if path.exists() else None

    def _note(self, error: KinspaceError | None) -> None:
        at = datetime.now(UTC)
        before = self._last()
        latest = before.latest if before else None
        if error is None:
            last = LastUpdate(at=at, latest=max(at, latest or at))
        else:
            last = LastUpdate(at=at, error=str(error), exit_code=error.exit_code, latest=latest)
        with contextlib.suppress(UsageError):  # a full disk must not hide what happened
            write_atomic(self.home / "last.json", last.model_dump_json(indent=2).encode() + b"\n")


def _kept(state: SlotState | None) -> frozenset[str]:
    """What the running slot and the one before it need."""
    slots = (state.current, state.previous) if state else ()
    return frozenset().union(*(slot.digests for slot in slots if slot))
