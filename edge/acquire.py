"""How an artifact comes onto a device: by the fewest bytes that lead to what was signed.

A delta only saves bytes, so whatever is wrong with one, its base included, costs bytes and nothing
else: the compressed file is tried next, then the file itself. What comes out has the digest of the
signed manifest, or is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compat.delta import methods_here, unpack
from compat.delta_index import Offer, plan
from compat.errors import UntrustedError, WithheldError
from compat.golden import MAX_GOLDEN_BYTES
from compat.manifest import Artifact, Blob, ReleaseManifest
from edge.client import RegistryClient
from edge.slots import Slots


@dataclass(frozen=True)
class Fetched:
    """What the way of an artifact cost."""

    n_bytes: int  # asked for, failed ways included; what an earlier update kept counts as well
    way: str  # "here", "whole", or the methods of what was unpacked, in turn


@dataclass(frozen=True)
class Acquirer:
    """Brings artifacts of one release into ``slots``.

    Args:
        held: artifacts on this device that a delta may start from, by digest.
        max_bytes: of any artifact, packed or not.
    """

    client: RegistryClient
    slots: Slots
    manifest: ReleaseManifest
    held: Mapping[str, Blob]
    max_bytes: int

    def acquire(self, golden: Blob, artifact: Artifact) -> Fetched:
        """Fetch ``golden`` and what leads to ``artifact``, unpack it, keep both.

        Raises:
            OfflineError: nobody answered; what came is kept, a repeat goes on from there.
            UntrustedError: see `RegistryClient.blob`. UsageError: the disk is full.
        """
        spent = self._fetch(golden, MAX_GOLDEN_BYTES)
        if self.slots.holds(artifact):
            return Fetched(spent, "here")
        offers = self.client.offers(self.manifest.family, self.manifest.version)
        for left in (offers, [each for each in offers if each.base is None]):
            chain = plan(artifact, self.held, left, methods_here())
            if not chain:
                break
            spent += sum(each.size_bytes for each in chain)
            try:
                made = self._follow(chain)
            except (UntrustedError, WithheldError):
                continue
            self.slots.put(made)
            return Fetched(spent, " + ".join(each.method for each in chain))
        self.client.forget_parts(keep={artifact.digest})
        return Fetched(spent + self._fetch(artifact, self.max_bytes), "whole")

    def _fetch(self, blob: Blob, max_bytes: int) -> int:
        """Keep the blob as it is; the bytes that it took."""
        if self.slots.holds(blob):
            return 0
        self.slots.put(self.client.blob(self.manifest.family, blob, max_bytes=max_bytes))
        return blob.size_bytes

    def _follow(self, chain: Sequence[Offer]) -> bytes:
        """Fetch and unpack one after the other."""
        self.client.forget_parts(keep={each.digest for each in chain})
        first = chain[0].base
        made = self.slots.read(self.held[first]) if first else None
        for offer in chain:
            if offer.result.size_bytes > self.max_bytes:
                raise UntrustedError(f"a delta to {offer.result.size_bytes} bytes: refused")
            packed = self.client.blob(self.manifest.family, offer, max_bytes=self.max_bytes)
            made = unpack(packed, made, result=offer.result)
        if made is None:
            raise RuntimeError("an empty chain leads nowhere")
        return made
