"""A device: it takes all of what it needs from one release or nothing, and keeps what it had.

Order of an update: what the registry says (`edge.client`) -> which releases are for this device
(`edge.rollout`) -> which artifacts fit here (`choose`) -> fetch one (`edge.acquire`) -> run the
golden set on this very runtime, and the clock where there is a latency budget -> switch by one
rename. A failure at any step, a power cut included, leaves the old release running; the next update
goes on from there. The device follows the channel, down as well as up: only its publisher can sign
a pointer to a lower version, and TUF refuses an older pointer (docs/adr/0003, 0004, 0012).
"""

import contextlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from compat.embedding import Embedder
from compat.errors import AdmissionError, CorruptError, KinspaceError, UsageError
from compat.files import read_bounded, write_atomic
from compat.golden import MAX_GOLDEN_BYTES, GoldenSet, admit, run_golden
from compat.manifest import Artifact, Blob, Member, ReleaseManifest, Runtime
from compat.matrix import CompatibilityMatrix
from compat.preprocess import Preprocess
from compat.update_report import MAX_REASON, Met
from compat.wire import canonical_json
from edge.acquire import Acquirer
from edge.budget import Budget
from edge.choice import Offer, choose, installed_runtimes
from edge.client import RegistryClient
from edge.device_id import device_id
from edge.hardware import hardware, memory_bytes
from edge.latency import median_latency_ms
from edge.lock import exclusive
from edge.profile import DeviceProfile
from edge.records import DeviceConfig, LastUpdate, Status, UpdateOutcome, read_record
from edge.rollout import DeviceFacts, offers
from edge.slots import Slot, Slots, SlotState
from edge.trusted import MAX_ROOT_BYTES

STABLE = "stable"  # the channel that devices follow unless they are told another
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
        budget: Budget | None = None,
        channel: str = STABLE,
    ) -> DeviceConfig:
        """Bind this home to a family of a registry, and to the root that is trusted from now on.

        Safe to repeat, also to name another mirror, member, runtime, budget or channel; root and
        family stay.

        Raises:
            UsageError: ``root`` is no root, or the home is bound to another root or family.
        """
        if "://" not in registry:
            registry = str(Path(registry).resolve())
        try:
            config = DeviceConfig(
                registry=registry,
                family=family,
                member=member,
                runtime=runtime,
                budget=budget or Budget(),
                channel=channel,
            )
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
        """Run the first release that the channel offers to this device, is proven and works here.

        Raises:
            OfflineError: nobody answered.
            UntrustedError: the registry must not be believed.
            AdmissionError: none of the offered releases works on this device, or fits its budget.
            UsageError: the home is not set up, its disk is full, or another update is at work.

        In every case what ran before still runs.
        """
        config = self.config()
        with exclusive(self.home / ".lock", "another update"):
            met: list[Met] = []
            try:
                outcome = self._update(config, met)
            except KinspaceError as error:
                self._note(error, met)
                raise
            self._note(None, met)
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

    def galleries(self) -> tuple[str, ...] | None:
        """The gallery generations that the active artifact may query; None: there is no matrix.

        Raises as `active`; empty where the matrix admits it to none.
        """
        active = self.active()
        state = self._slots.state
        matrix = self._slots.matrix(state.current) if state else None
        return matrix.galleries_for(active.artifact.digest) if matrix else None

    def profile(self, *, is_fresh: bool = False) -> DeviceProfile:
        """This device and its probes, measured once. Raises as `edge.probes.profile_in`."""
        from edge.probes import profile_in  # starts a process for each probe: only when asked

        return profile_in(self.home, self._usable(self.config()), is_fresh=is_fresh)

    def embedder(self, of: Active | None = None) -> Embedder:
        """The active artifact, or another that is held, ready to run. Raises as `active`."""
        manifest, member, artifact, path = of or self.active()
        return self._open(path, artifact.runtime, member.preprocess, manifest.space.dim)

    def previous(self) -> Active | None:
        """What ran before the active release, where this device still holds it whole."""
        state = self._slots.state
        slot = state.previous if state else None
        if slot is None or not self._slots.is_intact(slot):
            return None
        manifest = self._slots.manifest(slot)
        found = manifest.find_artifact(slot.artifact.digest)
        return found and Active(manifest, *found, self._slots.path(slot.artifact))

    def client(self) -> RegistryClient:
        """The registry, refreshed. Hold the home's lock. Raises as `update`."""
        client = RegistryClient(self.config().registry, self.home / "trust", self._root())
        client.refresh()
        return client

    def status(self) -> Status:
        """Raises UsageError when the home is not set up, CorruptError when its state is damaged."""
        state = self._slots.state
        return Status(
            config=self.config(),
            current=state.current if state else None,
            previous=state.previous if state else None,
            last_update=self._record(),
        )

    def config(self) -> DeviceConfig:
        """Raises UsageError when the home is not set up."""
        path = self.home / "device.json"
        if not path.exists():
            raise UsageError(f"{self.home} is no device yet: kinspace device init")
        return read_record(path, DeviceConfig)

    def _root(self) -> bytes:
        return read_bounded(self.home / "root.json", MAX_ROOT_BYTES)

    def _update(self, config: DeviceConfig, met: list[Met]) -> UpdateOutcome:
        """Try what is offered, in order; every release that was tried is added to ``met``."""
        client = RegistryClient(config.registry, self.home / "trust", self._root())
        last = self._last()
        client.refresh(not_before=last.latest if last else None)
        channel = client.channel(config.family, config.channel)
        state = self._state_or_none()
        running = state.current.version if state else None
        failed: list[str] = []
        for version in offers(channel, self._facts(config), running=running):
            try:
                outcome = self._take(client, config, version, state)
            except AdmissionError as error:
                met.append(Met(version=version, works=False, reason=str(error)[:MAX_REASON]))
                failed.append(str(error))
                continue
            met.append(Met(version=version, works=True))
            return outcome.model_copy(update={"refused": (*failed, *outcome.refused)})
        raise AdmissionError(f"{'; '.join(failed)}; what ran before still runs")

    def _take(
        self, client: RegistryClient, config: DeviceConfig, version: str, state: SlotState | None
    ) -> UpdateOutcome:
        """Run the release ``version`` from now on, if it works here.

        Raises:
            AdmissionError: it does not.
        """
        manifest = client.manifest(config.family, version)
        matrix = client.matrix(config.family)
        fitting = choose(
            manifest, config.member, self._seen(config), budget=config.budget, matrix=matrix
        )
        if state and self._runs(state.current, manifest, fitting, config.budget):
            if self._slots.matrix(state.current) != matrix:
                state = state.with_matrix(self._keep(matrix))
                self._slots.switch(state)
                self._slots.prune(wanted=_kept(state))
            return UpdateOutcome.of(state.current, changed=False)
        offered = {blob.digest for each in fitting for blob in (each.member.golden, each.artifact)}
        self._slots.prune(wanted=_kept(state) | offered)  # before, so that the disk has room
        pairs = self._keep(matrix)
        acquirer = Acquirer(client, self._slots, manifest, self._held(state))
        refused: list[str] = []
        for offer in fitting:
            try:
                golden = acquirer.acquire(offer.member.golden, MAX_GOLDEN_BYTES)
                fetched = acquirer.acquire(offer.artifact, MAX_ARTIFACT_BYTES)
                slot = self._admit(manifest, offer, config.budget)
            except AdmissionError as error:
                refused.append(f"{offer.label}: {error}")
                continue
            slot = slot.model_copy(update={"matrix": pairs})
            state = state.followed_by(slot) if state else SlotState(current=slot)
            self._slots.switch(state)
            self._slots.prune(wanted=_kept(state))
            client.forget_parts()
            return UpdateOutcome.of(
                slot, changed=True, refused=tuple(refused), fetched=fetched, golden=golden
            )
        client.forget_parts()
        raise AdmissionError(
            f"release {version} does not work on this device: {'; '.join(refused)}"
        )

    def _admit(self, manifest: ReleaseManifest, offer: Offer, budget: Budget) -> Slot:
        """Let an artifact that is here prove itself.

        Raises:
            AdmissionError: it fails; its bytes are the signed ones, so the fault is here.
        """
        member, artifact = offer.member, offer.artifact
        golden = GoldenSet.from_bytes(self._slots.read(member.golden))
        latency_ms = None
        try:
            embedder = self._open(
                self._slots.path(artifact), artifact.runtime, member.preprocess, manifest.space.dim
            )
            check = run_golden(golden, artifact.digest, embedder)
        except (UsageError, CorruptError) as error:  # it does not load, decode or embed here
            raise AdmissionError(str(error)) from error
        admit(check, artifact.admission_cosine)
        if budget.max_latency_ms is not None:
            latency_ms = median_latency_ms(embedder)
            if latency_ms > budget.max_latency_ms:
                raise AdmissionError(
                    f"it takes {latency_ms:.2f} ms here, {budget.max_latency_ms:g} ms are granted"
                )
        return Slot(
            version=manifest.version,
            manifest=self._slots.put(manifest.to_bytes()),
            member=member.name,
            artifact=artifact,
            golden=member.golden,
            check=check,
            budget=budget,
            latency_ms=latency_ms,
        )

    def _held(self, state: SlotState | None) -> dict[str, Blob]:
        """Files that are here, whole: what a delta may start from."""
        slots = (state.current, state.previous) if state else ()
        files = [file for slot in slots if slot for file in (slot.artifact, slot.golden)]
        return {each.digest: each for each in files if self._slots.holds(each)}

    def _keep(self, matrix: CompatibilityMatrix | None) -> Blob | None:
        return self._slots.put(matrix.to_bytes()) if matrix else None

    def _runs(
        self, slot: Slot, manifest: ReleaseManifest, offers: Sequence[Offer], budget: Budget
    ) -> bool:
        """Whether ``slot`` is this release already, as it is wished, and whole."""
        offered = {(each.member.name, each.artifact) for each in offers}
        if (slot.member, slot.artifact) not in offered or slot.budget != budget:
            return False
        return self._slots.is_intact(slot) and self._slots.manifest(slot) == manifest

    def _seen(self, config: DeviceConfig) -> DeviceProfile:
        """What a choice asks of this device; the probes are run only for a latency budget."""
        if config.budget.max_latency_ms is not None:
            return self.profile()
        return DeviceProfile(hardware=hardware(), runtimes=self._usable(config))

    def _facts(self, config: DeviceConfig) -> DeviceFacts:
        return DeviceFacts(
            device_id=device_id(self.home),
            client=installed_version("kinspace"),
            runtimes=self._usable(config),
            system=platform.system(),
            memory_bytes=memory_bytes(),
        )

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
            return self._record()
        return None

    def _record(self) -> LastUpdate | None:
        path = self.home / "last.json"
        return read_record(path, LastUpdate) if path.exists() else None

    def _note(self, error: KinspaceError | None, met: Sequence[Met]) -> None:
        at = datetime.now(UTC)
        before = self._last()
        latest = before.latest if before else None
        last = LastUpdate(at=at, met=tuple(met), latest=latest)
        if error is None:
            last = last.model_copy(update={"latest": max(at, latest or at)})
        else:
            last = last.model_copy(update={"error": str(error), "exit_code": error.exit_code})
        with contextlib.suppress(UsageError):  # a full disk must not hide what happened
            write_atomic(self.home / "last.json", last.model_dump_json(indent=2).encode() + b"\n")


def _kept(state: SlotState | None) -> frozenset[str]:
    """What the running slot and the one before it need."""
    slots = (state.current, state.previous) if state else ()
    return frozenset().union(*(slot.digests for slot in slots if slot))
