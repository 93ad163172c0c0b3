"""Deltas of a release: made from releases before it, signed beside it, never a condition of it.

A commit of its own after the release's: cut off between the two, devices take whole files until the
next publish completes it. Packing is a function of the bytes, so that a repeat finds what is there.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from compat.delta import pack_hdiff, pack_tensors, pack_whole
from compat.delta_index import MAX_INDEX_BYTES, DeltaIndex, PackedFile, delta_index_target
from compat.files import digest_of
from compat.manifest import (
    MAX_MANIFEST_BYTES,
    Artifact,
    Blob,
    ReleaseManifest,
    Runtime,
    blob_target,
    manifest_target,
)
from registry.repository import Repository
from registry.tensor_layout import segments_of

DIRECT_FROM = 3  # releases before this one that get deltas of their own; older ones take a chain
MAX_CARRIED = 256  # older links than these are left behind: the index stays small
Packed = tuple[PackedFile, bytes]


def publish_deltas(repository: Repository, manifest: ReleaseManifest) -> DeltaIndex:
    """Make, sign and serve the packed files of a published release; safe to repeat.

    Raises:
        ConflictError: another publisher was first; nothing is served of this. Remedy: repeat.
        UsageError, OfflineError, UntrustedError: see `Repository`.
    """
    family, name = manifest.family, delta_index_target(manifest.family, manifest.version)
    if there := repository.read(family, name, max_bytes=MAX_INDEX_BYTES):
        return DeltaIndex.from_bytes(there)
    before = releases_before(repository, manifest)
    packed = list(_packed(repository, manifest, before))
    offers = [*_carried(repository, before, packed), *(offer for offer, _ in packed)]
    index = DeltaIndex(family=family, version=manifest.version, offers=tuple(offers))
    blobs = {blob_target(family, offer.digest): blob for offer, blob in packed}
    repository.sign_targets(family, {**blobs, name: index.to_bytes()}, moving={})
    return index


def releases_before(repository: Repository, manifest: ReleaseManifest) -> list[ReleaseManifest]:
    """The releases of the family with lower versions that are still signed, the last first."""
    family = manifest.family
    prefix, suffix = manifest_target(family, "\0").split("\0")
    names = repository.state.family(family).targets
    found = (
        each[len(prefix) : -len(suffix)]
        for each in names
        if each.startswith(prefix) and each.endswith(suffix)
    )
    lower = [each for each in found if _numbers(each) < _numbers(manifest.version)]
    read = (
        repository.read(family, manifest_target(family, each), max_bytes=MAX_MANIFEST_BYTES)
        for each in sorted(lower, key=_numbers, reverse=True)[:DIRECT_FROM]
    )
    return [ReleaseManifest.from_bytes(blob) for blob in read if blob]


def pack_smallest(base: bytes, result: bytes, runtime: Runtime | None) -> tuple[str, bytes]:
    """The shorter of both kinds of delta, and its method; ``runtime`` of a model file."""
    packed = {"tensors": pack_tensors(base, result, segments_of(base, result, runtime))}
    if find_spec("hdiffpatch"):
        packed["hdiff"] = pack_hdiff(base, result)
    return min(packed.items(), key=lambda each: len(each[1]))


def _packed(
    repository: Repository, manifest: ReleaseManifest, before: Sequence[ReleaseManifest]
) -> Iterator[Packed]:
    """Each file compressed, and from its own kind in each release before, where that pays."""
    earlier = [_files(release) for release in before]
    for kind, file in _files(manifest).items():
        blob = _read(repository, manifest.family, file)
        if blob is None:
            continue
        whole = pack_whole(blob)
        smallest = min(len(whole), len(blob))
        if len(whole) < len(blob):
            yield _offer("zstd", None, file, whole)
        bases = {files[kind].digest: files[kind] for files in earlier if kind in files}
        for base in (each for digest, each in bases.items() if digest != file.digest):
            if old := _read(repository, manifest.family, base):
                runtime = file.runtime if isinstance(file, Artifact) else None
                method, packed = pack_smallest(old, blob, runtime)
                if len(packed) < smallest:
                    yield _offer(method, base.digest, file, packed)


def _files(release: ReleaseManifest) -> dict[tuple[str, str], Blob]:
    """What devices hold of a release, by member and kind: golden sets and artifacts."""
    found: dict[tuple[str, str], Blob] = {}
    for member in release.members:
        found[member.name, "golden"] = member.golden
        found |= {(member.name, each.label): each for each in member.artifacts}
    return found


def _carried(
    repository: Repository, before: Sequence[ReleaseManifest], packed: Sequence[Packed]
) -> list[PackedFile]:
    """Deltas of the last release that lead to where one of ``packed`` starts: links of a chain."""
    if not before:
        return []
    name = delta_index_target(before[0].family, before[0].version)
    blob = repository.read(before[0].family, name, max_bytes=MAX_INDEX_BYTES)
    if blob is None:
        return []
    links = [each for each in DeltaIndex.from_bytes(blob).offers if each.base]
    reached = {offer.base for offer, _ in packed if offer.base}
    kept: list[PackedFile] = []
    while more := [e for e in links if e.result.digest in reached and e not in kept]:
        kept += more
        reached |= {each.base for each in more if each.base}
    return kept[:MAX_CARRIED]


def _offer(method: str, base: str | None, file: Blob, packed: bytes) -> Packed:
    result = Blob(digest=file.digest, size_bytes=file.size_bytes)
    offer = PackedFile(
        digest=digest_of(packed),
        size_bytes=len(packed),
        method=method,
        base=base,
        result=result,
    )
    return offer, packed


def _read(repository: Repository, family: str, blob: Blob) -> bytes | None:
    """None when the release was withdrawn."""
    return repository.read(family, blob_target(family, blob.digest), max_bytes=blob.size_bytes)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
