"""Packed files: what goes in comes out, and nothing else ever does."""

import itertools
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from compat import delta
from compat.delta import Segment, pack_hdiff, pack_tensors, pack_whole, unpack
from compat.delta_index import DeltaIndex, PackedFile, plan
from compat.errors import CorruptError, UntrustedError
from compat.files import digest_of
from compat.manifest import Blob


def named(blob: bytes) -> Blob:
    return Blob(digest=digest_of(blob), size_bytes=len(blob))


def weights(seed: int, n: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


OLD = weights(0)
NEW = OLD + np.float32(1e-4) * weights(1)
WHOLE = [Segment(0, 5000, 4)]


def test_every_method_gives_the_file_back():
    old, new = OLD.tobytes(), NEW.tobytes()
    made = {
        "tensors": pack_tensors(old, new, WHOLE),
        "hdiff": pack_hdiff(old, new),
    }
    for packed in made.values():
        assert unpack(packed, old, result=named(new)) == new
    assert unpack(pack_whole(new), None, result=named(new)) == new
    assert len(made["tensors"]) < 0.7 * len(pack_whole(new)), "small steps are small numbers"


@given(st.data())
def test_any_segments_of_any_bytes_come_back(data):
    old = data.draw(st.binary(max_size=200))
    segments, size = [], 0
    for width, n_values in data.draw(
        st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.integers(0, 20)), max_size=6)
    ):
        room = len(old) - width * n_values
        start = data.draw(st.none() | st.integers(0, room)) if room >= 0 else None
        segments.append(Segment(start, n_values, width))
        size += width * n_values
    new = data.draw(st.binary(min_size=size, max_size=size))
    assert unpack(pack_tensors(old, new, segments), old, result=named(new)) == new


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_zigzag_keeps_small_steps_small(dtype):
    steps = np.array([0, -1, 1, -2, 2], np.dtype(dtype.replace("u", "i"))).view(dtype)
    assert delta._zigzag(steps).tolist() == [0, 1, 2, 3, 4]
    assert (delta._unzigzag(delta._zigzag(steps)) == steps).all()


@pytest.mark.parametrize("pack", [lambda a, b: pack_tensors(a, b, WHOLE), pack_hdiff])
def test_attack_a_tampered_base(pack):
    old, new = OLD.tobytes(), NEW.tobytes()
    packed = pack(old, new)
    tampered = bytes([old[0] ^ 1]) + old[1:]
    for base in (tampered, old[:-4], None):
        with pytest.raises(CorruptError):
            unpack(packed, base, result=named(new))


def test_attack_a_result_that_was_not_promised():
    old, new = OLD.tobytes(), NEW.tobytes()
    promised = named(weights(3).tobytes())
    assert promised.size_bytes == len(new)
    for packed, base in (
        (pack_whole(new), None),
        (pack_tensors(old, new, WHOLE), old),
        (pack_hdiff(old, new), old),
    ):
        with pytest.raises(CorruptError, match="does not give"):
            unpack(packed, base, result=promised)


def bomb(header: bytes, payload: bytes) -> bytes:
    content = struct.pack("<I", len(header)) + header + payload
    return delta.MAGIC + zstandard.ZstdCompressor().compress(content)


def test_attack_a_delta_bomb_is_not_unpacked(monkeypatch):
    """Half a GiB of zeros in a few KiB: no more is read than the result can need."""
    new = NEW.tobytes()
    packed = bomb(b"{}", bytes(2**29))
    assert len(packed) < 100_000
    read = []
    real = zstandard.ZstdDecompressor

    class Watched:
        def __init__(self, **kwargs):
            self._real = real(**kwargs)

        def stream_reader(self, source):
            reader = self._real.stream_reader(source)
            return WatchedReader(reader)

    class WatchedReader:
        def __init__(self, reader):
            self._reader = reader

        def __enter__(self):
            return self

        def __exit__(self, *why): ...

        def read(self, size):
            found = self._reader.read(size)
            read.append(len(found))
            return found

    monkeypatch.setattr(delta.zstandard, "ZstdDecompressor", Watched)
    with pytest.raises(CorruptError, match="unpacks to more than"):
        unpack(packed, None, result=named(new))
    assert 0 < sum(read) <= len(new) + delta.MAX_HEADER_BYTES + 5


def test_attack_an_hdiff_that_asks_for_room_without_end(monkeypatch):
    """hdiffpatch makes room for the length in the head: it is never asked to."""
    import hdiffpatch

    old, new = OLD.tobytes(), NEW.tobytes()
    header = delta.DeltaHeader(method="hdiff", base=digest_of(old), result=digest_of(new))
    endless = delta.HDIFF + b"\x90" + b"\x80" * 7 + b"\x00" + b"\x00" * 20
    asked = []
    monkeypatch.setattr(hdiffpatch, "apply", lambda *given: asked.append(given))
    with pytest.raises(CorruptError, match="refused"):
        unpack(bomb(header.model_dump_json().encode(), endless), old, result=named(new))
    assert asked == []


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"KINDELTA",
        b"KINDELTAxxxxxxxx",
        pack_whole(b"x" * 100)[:-3],
        bomb(b"{}", b""),
        bomb(b'{"method": "tensors", "base": null, "result": "' + b"0" * 64 + b'"}', b""),
        delta.MAGIC + zstandard.ZstdCompressor().compress(b"\xff\xff\xff\xff"),
    ],
)
def test_no_packed_file(packed):
    with pytest.raises(CorruptError):
        unpack(packed, None, result=named(b"x" * 100))


@pytest.mark.parametrize(
    "segment", [(0, 26, 4), (-4, 25, 4), (1, 25, 4), (10**9, 25, 4), (0, 100, 3), (0, -1, 4)]
)
def test_a_segment_that_leads_out_of_the_base(segment):
    old, new = bytes(100), b"x" * 100
    header = delta.DeltaHeader(
        method="tensors", base=digest_of(old), result=digest_of(new), segments=[segment]
    )
    with pytest.raises(CorruptError, match="segment"):
        unpack(bomb(header.model_dump_json().encode(), bytes(100)), old, result=named(new))


def offer(base: str | None, result: str, size_bytes: int, method: str = "tensors") -> PackedFile:
    digest = digest_of(f"{base}{result}{size_bytes}{method}".encode())
    return PackedFile(
        digest=digest,
        size_bytes=size_bytes,
        method=method,
        base=base and digest_of(base.encode()),
        result=Blob(digest=digest_of(result.encode()), size_bytes=1000),
    )


def sizes(wanted: str, held: str, offers, methods=("tensors", "hdiff", "zstd")) -> list[int]:
    found = plan(
        Blob(digest=digest_of(wanted.encode()), size_bytes=1000),
        {digest_of(each.encode()) for each in held},
        offers,
        methods,
    )
    return [each.size_bytes for each in found]


OFFERS = [
    offer(None, "c", 700, "zstd"),
    offer("a", "b", 90),
    offer("b", "c", 100),
    offer("a", "c", 250),
    offer("a", "c", 60, "hdiff"),
]


def test_the_plan_is_the_cheapest_way():
    assert sizes("c", "a", OFFERS) == [60]
    assert sizes("c", "a", OFFERS, methods=("tensors", "zstd")) == [90, 100], "a chain"
    assert sizes("c", "a", OFFERS[:1] + OFFERS[3:4]) == [250], "one delta"
    assert sizes("c", "b", OFFERS) == [100]
    assert sizes("c", "", OFFERS) == [700], "compressed"
    assert sizes("c", "", []) == [], "the file itself"
    assert sizes("c", "x", [offer("x", "c", 1000)]) == [], "no dearer than the file itself"
    assert sizes("c", "a", [offer("a", "c", 5, "of the future")]) == []
    assert sizes("c", "a", [offer("a", "b", 1), offer("b", "a", 1)]) == [], "a ring ends"


@given(st.data())
def test_no_chain_is_cheaper_than_the_plan(data):
    """Against every chain of up to four deltas, tried one by one."""
    names = st.sampled_from("abcd")
    offers = [
        offer(base, result, size)
        for base, result, size in data.draw(
            st.lists(st.tuples(st.none() | names, names, st.integers(1, 600)), max_size=7)
        )
    ]
    held, wanted = {digest_of(b"a")}, digest_of(b"d")
    costs = [1000]
    for n in range(1, 5):
        for chain in itertools.permutations(offers, n):
            starts = [None, *held]
            linked = all(b.base == a.result.digest for a, b in itertools.pairwise(chain))
            if chain[0].base in starts and linked and chain[-1].result.digest == wanted:
                costs.append(sum(each.size_bytes for each in chain))
    found = sizes("d", "a", offers)
    assert (sum(found) if found else 1000) == min(costs)


def test_an_index_keeps_what_it_does_not_know():
    index = DeltaIndex(family="f", version="1.0.0", offers=tuple(OFFERS))
    blob = index.to_bytes().replace(b'"format": 1', b'"format": 1,\n"future": 2')
    assert b'"future": 2' in DeltaIndex.from_bytes(blob).to_bytes()
    with pytest.raises(UntrustedError):
        DeltaIndex.from_bytes(b"{}")
