"""A packed file: the bytes of a release's file, told as a difference from a file held already.

On the wire: ``KINDELTA``, then one zstd frame of a header's length (4 bytes, little-endian), the
header as JSON, and the payload. Three methods:

- ``zstd``: the payload is the result; there is no base.
- ``tensors``: the result is a row of segments. One that names a place in the base is stored as the
  difference of bit patterns, taken as integers of its width (wrapping, zigzag, so that a small step
  of either sign is a small number) and split into byte planes, so that what did not move is zeros.
- ``hdiff``: the payload is an uncompressed HDiffPatch of the base (hdiffpatch).

The result's digest and length are known before, from a signed manifest, and nothing is made that is
longer. What is in a packed file is believed only when the result is what that digest names.
"""

import struct
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compat.errors import CorruptError
from compat.files import digest_of
from compat.manifest import Blob, Digest
from compat.wire import canonical_json

MAGIC = b"KINDELTA"
MAX_HEADER_BYTES = 2**20
MAX_WINDOW_BYTES = 2**23  # what a device keeps while it unpacks
LEVEL = 19  # the most that needs no wider window
WIDTHS = (1, 2, 4)
HDIFF = b"HDIFF13&\0"  # of an uncompressed one; its lengths follow

Method = Literal["zstd", "tensors", "hdiff"]
Bits = np.ndarray[tuple[int], np.dtype[Any]]  # unsigned integers of one width


class Segment(NamedTuple):
    """``n_values`` integers of ``width`` bytes, from the byte ``start`` of the base on."""

    start: int | None  # None: nothing of the base is like it, the payload holds it as it is
    n_values: int
    width: int

    @property
    def size_bytes(self) -> int:
        return self.n_values * self.width


class DeltaHeader(BaseModel):
    """What a packed file says of itself."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    method: Method
    base: Digest | None
    result: Digest
    segments: tuple[Segment, ...] = Field(default=(), max_length=2**16)

    @model_validator(mode="after")
    def _has_base(self) -> Self:
        if (self.base is None) != (self.method == "zstd"):
            raise ValueError(f"{self.method} with base {self.base}")
        return self


def methods_here() -> frozenset[str]:
    """What this installation unpacks; hdiffpatch is an extra."""
    found = {"zstd", "tensors"}
    return frozenset(found | {"hdiff"} if find_spec("hdiffpatch") else found)


def pack_whole(result: bytes) -> bytes:
    """Compressed, for who holds nothing."""
    return _packed(DeltaHeader(method="zstd", base=None, result=digest_of(result)), result)


def pack_tensors(base: bytes, result: bytes, segments: Sequence[Segment]) -> bytes:
    """The difference along ``segments``, which cover ``result`` from its first byte to its last."""
    header = DeltaHeader(
        method="tensors",
        base=digest_of(base),
        result=digest_of(result),
        segments=tuple(segments),
    )
    return _packed(header, _differences(base, result, segments))


def pack_hdiff(base: bytes, result: bytes) -> bytes:
    """By HDiffPatch: finds what moved, whatever the format."""
    import hdiffpatch

    header = DeltaHeader(method="hdiff", base=digest_of(base), result=digest_of(result))
    return _packed(header, hdiffpatch.diff(base, result))


def unpack(packed: bytes, base: bytes | None, *, result: Blob) -> bytes:
    """The file that ``result`` names, out of ``packed`` and the ``base`` that it was made from.

    Raises:
        CorruptError: they give no such file. Nothing longer than ``result`` was made on the way.
            Remedy: fetch the file itself.
    """
    header, payload = _opened(packed, result)
    if header.base != (None if base is None else digest_of(base)):
        raise CorruptError("the delta was made from another file than the one held here")
    match header.method:
        case "zstd":
            made = payload
        case "tensors":
            made = _summed(base or b"", payload, header.segments, result.size_bytes)
        case "hdiff":
            made = _patched(base or b"", payload, result.size_bytes)
    if len(made) != result.size_bytes or digest_of(made) != result.digest:
        raise CorruptError(f"the delta does not give {result.digest[:12]}, which was promised")
    return made


def _packed(header: DeltaHeader, payload: bytes) -> bytes:
    head = canonical_json(header.model_dump(mode="json"))
    content = struct.pack("<I", len(head)) + head + payload
    return MAGIC + zstandard.ZstdCompressor(level=LEVEL).compress(content)


def _opened(packed: bytes, result: Blob) -> tuple[DeltaHeader, bytes]:
    """Header and payload, read no further than a file of this length can need."""
    if not packed.startswith(MAGIC):
        raise CorruptError("not a packed file")
    bound = 4 + MAX_HEADER_BYTES + result.size_bytes
    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with unpacker.stream_reader(packed[len(MAGIC) :]) as reader:
            content = reader.read(bound + 1)
        if len(content) > bound:
            raise CorruptError(f"the delta unpacks to more than {bound} bytes: refused")
        [length] = struct.unpack_from("<I", content)
        header = DeltaHeader.model_validate_json(content[4 : 4 + min(length, MAX_HEADER_BYTES)])
    except (zstandard.ZstdError, struct.error, ValidationError) as error:
        raise CorruptError(f"not a packed file that this version reads: {error}") from error
    return header, content[4 + length :]


def _differences(base: bytes, result: bytes, segments: Sequence[Segment]) -> bytes:
    """Every segment's difference, by width and byte plane, the highest plane first."""
    rows: dict[int, list[Bits]] = {width: [] for width in WIDTHS}
    place = 0
    for segment in segments:
        new = np.frombuffer(result, f"<u{segment.width}", segment.n_values, place)
        place += segment.size_bytes
        if segment.start is not None:
            old = np.frombuffer(base, new.dtype, segment.n_values, segment.start)
            new = _zigzag(new - old)
        rows[segment.width].append(new)
    if place != len(result):
        raise RuntimeError(f"segments cover {place} of {len(result)} bytes")
    planes = (_planes(np.concatenate(each), width) for width, each in rows.items() if each)
    return b"".join(planes)


def _summed(base: bytes, payload: bytes, segments: Sequence[Segment], size_bytes: int) -> bytes:
    """Undo `_differences`. Raises CorruptError."""
    if any(each.width not in WIDTHS or each.n_values < 0 for each in segments):
        raise CorruptError("a segment of the delta is of no width or length that there is")
    if sum(each.size_bytes for each in segments) != len(payload) or len(payload) != size_bytes:
        raise CorruptError("the delta's segments are not as long as the file they make")
    values: dict[int, Bits] = {}
    place = 0
    for width in WIDTHS:
        size = sum(each.size_bytes for each in segments if each.width == width)
        values[width] = _unplaned(payload[place : place + size], width)
        place += size
    made, taken = [], dict.fromkeys(WIDTHS, 0)
    for segment in segments:
        start, n_values, width = segment
        new = values[width][taken[width] : taken[width] + n_values]
        taken[width] += n_values
        if start is not None:
            if not 0 <= start <= len(base) - segment.size_bytes:
                raise CorruptError("a segment of the delta lies outside of the file it starts from")
            new = _unzigzag(new) + np.frombuffer(base, new.dtype, n_values, start)
        made.append(new.tobytes())
    return b"".join(made)


def _patched(base: bytes, payload: bytes, size_bytes: int) -> bytes:
    """Undo hdiffpatch, which makes room for whatever length stands in its head: read that first."""
    import hdiffpatch

    if not payload.startswith(HDIFF):
        raise CorruptError("not an uncompressed HDiffPatch")
    made_bytes, place = _packed_length(payload, len(HDIFF))
    base_bytes, _ = _packed_length(payload, place)
    if (made_bytes, base_bytes) != (size_bytes, len(base)):
        raise CorruptError(f"the delta makes {made_bytes} bytes of {base_bytes}: refused")
    try:
        made: bytes = hdiffpatch.apply(base, payload)
    except hdiffpatch.HDiffPatchError as error:
        raise CorruptError(f"the delta does not fit: {error}") from error
    return made


def _packed_length(blob: bytes, place: int) -> tuple[int, int]:
    """HDiffPatch's integers: seven bits a byte, the highest first, the top bit says go on."""
    value = 0
    for i, byte in enumerate(blob[place : place + 10]):
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, place + i + 1
    raise CorruptError("the delta ends in its head")


def _zigzag(steps: Bits) -> Bits:
    """0, -1, 1, -2, 2 ... of any width -> 0, 1, 2, 3, 4 ..."""
    bits = steps.dtype.itemsize * 8
    sign = steps.view(f"<i{steps.dtype.itemsize}") >> (bits - 1)  # 0 or -1
    return (steps << 1) ^ sign.view(steps.dtype)


def _unzigzag(coded: Bits) -> Bits:
    return (coded >> 1) ^ (0 - (coded & 1))


def _planes(values: Bits, width: int) -> bytes:
    return np.ascontiguousarray(values.view(np.uint8).reshape(-1, width).T[::-1]).tobytes()


def _unplaned(planes: bytes, width: int) -> Bits:
    rows = np.frombuffer(planes, np.uint8).reshape(width, -1)
    return np.ascontiguousarray(rows[::-1].T).reshape(-1).view(f"<u{width}")
