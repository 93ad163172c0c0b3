"""How a file of a release comes onto a device: by the fewest bytes that lead to what was signed.

A delta only saves bytes, so whatever is wrong with one, its base included, costs bytes and nothing
else: the compressed file is tried next, then the file itself. What comes out has the digest of the
signed manifest, or is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from compat.delta import methods_here, unpack
from compat.delta_index import PackedFile, plan
from compat.errors import UntrustedError, WithheldError
from compat.manifest import Blob, ReleaseManifest
from edge.client import RegistryClient
from edge.slots import Slots


@dataclass(frozen=True)
class Fetched:
    """What the way of a file cost."""

    n_bytes: int  # asked for, failed ways included; what an earlier update kept counts as well
    way: str  # "here", "whole", or the methods of what was unpacked, in turn


@dataclass(frozen=True)
class Acquirer:
    """Brings files of one release into ``slots``.

    Args:
        held: files on this device that a delta may start from, by digest.
    """

    client: RegistryClient
    slots: Slots
    manifest: ReleaseManifest
    held: Mapping[str, Blob]

    def acquire(self, wanted: Blob, max_bytes: int) -> Fetched:
        """Fetch what leads to ``wanted``, unpack it, keep it.

        Args:
            max_bytes: of ``wanted`` and of any file on the way to it.

        Raises:
            OfflineError: nobody answered; what came is kept, a repeat goes on from there.
            UntrustedError: see `RegistryClient.blob`. UsageError: the disk is full.
        """
        if self.slots.holds(wanted):
            return Fetched(0, "here")
        spent = 0
        for offers in (self._offers, [each for each in self._offers if each.base is None]):
            chain = plan(wanted, self.held, offers, methods_here())
            if not chain:
                break
            spent += sum(each.size_bytes for each in chain)
            try:
                made = self._follow(chain, max_bytes)
            except (UntrustedError, WithheldError):
                continue
            self.slots.put(made)
            return Fetched(spent, " + ".join(each.method for each in chain))
        self.client.forget_parts(keep={wanted.digest})
        self.slots.put(self.client.blob(self.manifest.family, wanted, max_bytes=max_bytes))
        return Fetched(spent + wanted.size_bytes, "whole")

    @cached_property
    def _offers(self) -> tuple[PackedFile, ...]:
        return self.client.offers(self.manifest.family, self.manifest.version)

    def _follow(self, chain: Sequence[PackedFile], max_bytes: int) -> bytes:
        """Fetch and unpack one after the other."""
        self.client.forget_parts(keep={each.digest for each in chain})
        first = chain[0].base
        made = self.slots.read(self.held[first]) if first else None
        for offer in chain:
            if offer.result.size_bytes > max_bytes:
                raise UntrustedError(f"a delta to {offer.result.size_bytes} bytes: refused")
            packed = self.client.blob(self.manifest.family, offer, max_bytes=max_bytes)
            made = unpack(packed, made, result=offer.result)
        if made is None:
            raise RuntimeError("an empty chain leads nowhere")
        return made
