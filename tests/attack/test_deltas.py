"""Deltas only save bytes: whatever is wrong with one, the device ends with what was signed."""

import pytest
import zstandard
from typer.testing import CliRunner

from compat import delta
from compat.delta import DeltaHeader
from compat.delta_index import DeltaIndex, PackedFile, delta_index_target
from compat.errors import OfflineError, UntrustedError
from compat.files import digest_of
from compat.manifest import Blob, blob_target
from registry.cli import app
from registry.deltas import publish_deltas


@pytest.fixture
def nudged(small):
    """A device on 1.0.0 and a registry that offers 1.1.0, whose weights moved a little."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    small.publish("1.1.0", seed=1, nudge=0.5)
    return device


@pytest.fixture
def wanted(small, nudged):
    return small.released["1.1.0"].members[0].artifacts[0]


@pytest.fixture
def after(small, nudged, running):
    """What an honest update without deltas gives."""
    good = small.copied(nudged, "good")
    assert good.update().fetched_as == "whole"
    return running(good)


def with_deltas(small) -> DeltaIndex:
    return publish_deltas(small.repository, small.released["1.1.0"])


def stored(small, digest: str):
    return small.folder / "targets" / "furniture" / "blobs" / f"{digest}.{digest}"


def offered(index: DeltaIndex, wanted: Blob) -> dict[str, PackedFile]:
    return {each.method: each for each in index.offers if each.result.digest == wanted.digest}


def sign(small, wanted: Blob, packed: bytes, *, base: str | None, method: str = "tensors") -> None:
    """The family's own key signs for a delta that is none: a publisher's mistake, or a thief."""
    offer = PackedFile(
        digest=digest_of(packed),
        size_bytes=len(packed),
        method=method,
        base=base,
        result=Blob(digest=wanted.digest, size_bytes=wanted.size_bytes),
    )
    index = DeltaIndex(family="furniture", version="1.1.0", offers=(offer,))
    small.repository.sign_targets(
        "furniture",
        {
            blob_target("furniture", offer.digest): packed,
            delta_index_target("furniture", "1.1.0"): index.to_bytes(),
        },
        moving={},
    )


def test_a_delta_leads_to_what_was_signed(small, nudged, wanted, after, running):
    offers = offered(with_deltas(small), wanted)
    outcome = nudged.update()
    assert outcome.fetched_as in ("tensors", "hdiff")
    assert running(nudged) == after
    delta_bytes = offers[outcome.fetched_as].size_bytes
    assert delta_bytes < 0.5 * offers["zstd"].size_bytes
    assert not list((nudged.home / "trust" / "parts").iterdir())


def test_a_new_device_takes_the_compressed_file(small, nudged, wanted, after):
    with_deltas(small)
    new = small.device("new")
    assert new.update().fetched_as == "zstd"
    assert new.active().path.read_bytes() == after[2]


def test_a_chain_over_a_release_that_the_device_never_ran(small, nudged, wanted):
    """The way from 1.0.0 is not offered: it was too many releases ago."""
    with_deltas(small)
    for i in range(2, 5):
        small.publish(f"1.{i}.0", seed=1, nudge=0.5 * i)
        publish_deltas(small.repository, small.released[f"1.{i}.0"])
    outcome = nudged.update()
    assert outcome.version == "1.4.0"
    assert len(outcome.fetched_as.split(" + ")) == 2
    last = small.released["1.4.0"].members[0].artifacts[0]
    assert digest_of(nudged.active().path.read_bytes()) == last.digest


def test_an_older_client_finds_a_release_as_it_was(small, nudged, wanted):
    """The manifest does not change when deltas come: their index is a target of its own."""
    name = "furniture/releases/1.1.0.json"
    before = small.repository.read("furniture", name, max_bytes=2**20)
    with_deltas(small)
    assert small.repository.read("furniture", name, max_bytes=2**20) == before


@pytest.mark.parametrize("what", ["delta", "index"])
@pytest.mark.parametrize("how", ["flipped", "withheld", "longer", "shorter"])
def test_attack_a_delta_or_its_index_is_spoilt(small, nudged, wanted, after, running, what, how):
    offers = offered(with_deltas(small), wanted)
    spoilt = [stored(small, each.digest) for each in offers.values() if each.base]
    if what == "index":
        spoilt = list((small.folder / "targets" / "furniture" / "deltas").iterdir())
    for path in spoilt:
        blob = path.read_bytes()
        changed = {
            "flipped": bytes([blob[0] ^ 1]) + blob[1:],
            "longer": blob + b"x",
            "shorter": blob[:-1],
        }
        path.unlink() if how == "withheld" else path.write_bytes(changed[how])
    outcome = nudged.update()
    assert outcome.fetched_as == ("zstd" if what == "delta" else "whole")
    assert running(nudged) == after


def test_attack_everything_is_substituted_at_the_same_length(small, nudged, wanted, running):
    before = running(nudged)
    index = with_deltas(small)
    for digest in (wanted.digest, *(each.digest for each in offered(index, wanted).values())):
        path = stored(small, digest)
        path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(UntrustedError):
        nudged.update()
    assert running(nudged) == before
    assert not [each for each in (nudged.home / "trust" / "parts").iterdir() if not each.suffix]


def test_attack_a_signed_delta_gives_another_file(small, nudged, wanted, after, running):
    """Of the same length, made from the right base: only the result's digest tells."""
    old = small.released["1.0.0"].members[0].artifacts[0]
    base, right = (stored(small, each.digest).read_bytes() for each in (old, wanted))
    wrong = right[:-1] + bytes([right[-1] ^ 1])
    packed = delta.pack_tensors(base, wrong, [delta.Segment(0, len(wrong), 1)])
    assert len(packed) < wanted.size_bytes, "else nobody would choose it"
    sign(small, wanted, packed, base=old.digest)
    outcome = nudged.update()
    assert outcome.fetched_as == "whole"
    assert running(nudged) == after
    assert digest_of(wrong) not in {each.name for each in (nudged.home / "blobs").iterdir()}


def test_attack_a_signed_delta_bomb(small, nudged, wanted, after, running):
    old = small.released["1.0.0"].members[0].artifacts[0]
    header = DeltaHeader(method="tensors", base=old.digest, result=wanted.digest)
    head = header.model_dump_json().encode()
    content = len(head).to_bytes(4, "little") + head + bytes(2**26)
    packed = delta.MAGIC + zstandard.ZstdCompressor(level=19).compress(content)
    assert len(packed) < wanted.size_bytes, "else nobody would choose it"
    sign(small, wanted, packed, base=old.digest)
    assert nudged.update().fetched_as == "whole"
    assert running(nudged) == after


def test_attack_the_base_on_the_device_is_tampered_with(small, nudged, wanted, after, running):
    with_deltas(small)
    base = nudged.active().path
    base.write_bytes(bytes([base.read_bytes()[0] ^ 1]) + base.read_bytes()[1:])
    assert nudged.update().fetched_as == "zstd"
    assert running(nudged)[:3] == after[:3]


def test_attack_an_index_of_another_release(small, nudged, wanted, after, running):
    """Signed, and moved: what it offers is not taken."""
    index = with_deltas(small).model_copy(update={"version": "1.0.0"})
    target = delta_index_target("furniture", "1.1.0")
    small.repository.sign_targets("furniture", {}, moving={target: index.to_bytes()})
    assert nudged.update().fetched_as == "whole"
    assert running(nudged) == after


def test_a_release_withdrawn_leaves_what_runs(small, nudged, running):
    """Its targets are signed no more; the channel still names it, or goes as well."""
    before = running(nudged)
    repository = small.repository
    state, seen = repository._load()
    targets = state.family("furniture").targets
    del targets["furniture/releases/1.1.0.json"]
    repository._commit(state, ["furniture"], {}, seen=seen)
    with pytest.raises(UntrustedError, match="nobody signed"):
        nudged.update()
    assert running(nudged) == before
    assert nudged.embedder().dim == 4


def test_deltas_are_made_once_and_completed_after_a_cut(small, nudged, cut_power, power_cut):
    left = 0
    while True:
        power = cut_power(left)
        try:
            index = with_deltas(small)
        except power_cut:
            power.left = 10**9
            assert small.device(f"d{left}").update().version == "1.1.0"
            left += 5
        else:
            break
    power.left = 10**9
    assert left > 5
    before = {path: path.read_bytes() for path in small.files()}
    assert with_deltas(small) == index
    assert {path: path.read_bytes() for path in small.files()} == before


def test_the_command_makes_and_shows_them(small, nudged, wanted):
    given = ["deltas", str(small.folder), "--keys", str(small.base / "keys"), "--family"]
    run = CliRunner().invoke
    made = run(app, [*given, "furniture", "--version", "1.1.0", "--json"])
    assert made.exit_code == 0, made.output
    assert DeltaIndex.from_bytes(made.stdout.encode()) == with_deltas(small)
    shown = run(app, [*given, "furniture", "--version", "1.1.0"])
    assert f"phone onnxruntime/int8: {wanted.size_bytes} bytes" in shown.stdout
    refused = run(app, [*given, "furniture", "--version", "9.9.9"])
    assert refused.exit_code == 2
    assert "holds no release 9.9.9" in refused.output


def test_a_registry_that_goes_away_is_offline(small, nudged, running):
    with_deltas(small)
    before = running(nudged)
    small.folder.rename(small.base / "gone")
    with pytest.raises(OfflineError):
        nudged.update()
    assert running(nudged) == before
