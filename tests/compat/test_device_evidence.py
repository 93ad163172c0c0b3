"""Many attestations drawn together, against an oracle that loops over devices."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from compat.attestation import Attested, DeviceKey, Expected
from compat.device_evidence import AttestationSection, aggregate

KEY = DeviceKey(keytype="ed25519", scheme="ed25519", public="0" * 64)
EXPECTED = (
    Expected("phone", "litert", "int8", "a" * 64, 0.97),
    Expected("phone", "litert", "fp32", "c" * 64, 0.999),
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def a_fleet(attested_as, rng: random.Random) -> list[Attested]:
    """40 devices of three classes, one to four attestations each, of either artifact."""
    found = []
    for device in range(40):
        name = f"class-{device % 3}"
        for _ in range(rng.randint(1, 4)):
            artifact = rng.choice(EXPECTED)
            p50 = rng.uniform(1, 5)
            made = attested_as(
                KEY,
                artifact=artifact.digest,
                precision=artifact.precision,
                device_class=name,
                golden={"cosine_min": rng.uniform(0.96, 1)},
                p50=p50,
                p95=p50 + rng.uniform(0, 9),
                measured_at=START + timedelta(minutes=rng.randrange(10**6)),
            )
            found.append(Attested(made, f"{device:064x}", f"{len(found)}.json"))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_loop_over_devices_finds(attested_as, seed):
    fleet = a_fleet(attested_as, random.Random(seed))
    rows = aggregate(fleet, EXPECTED)
    names = [(f"class-{i}", e.digest) for i in range(3) for e in sorted(EXPECTED)]
    assert [(row.device_class, row.digest) for row in rows] == [
        (name, digest)
        for name, digest in names
        if any(
            (f.attestation.device_class, f.attestation.artifact) == (name, digest) for f in fleet
        )
    ]
    for row in rows:
        bound = 0.97 if row.digest == "a" * 64 else 0.999
        mine = [
            f
            for f in fleet
            if f.attestation.artifact == row.digest
            and f.attestation.device_class == row.device_class
        ]
        latest = []
        for device in {f.key_id for f in mine}:
            own = [f for f in mine if f.key_id == device]
            latest.append(own[int(np.argmax([f.attestation.measured_at.timestamp() for f in own]))])
        cosines = [f.attestation.golden.cosine_min for f in latest]
        assert (row.devices, row.attestations) == (len(latest), len(mine))
        assert row.cosine_worst == np.min(cosines)
        p50s = [f.attestation.one_thread.latency_ms_p50 for f in latest]
        assert row.latency_ms_p50 == pytest.approx(np.median(p50s))
        assert row.latency_ms_p95 == max(f.attestation.one_thread.latency_ms_p95 for f in latest)
        failing = {f.key_id for f in latest if f.attestation.golden.cosine_min < bound}
        assert {each.key_id for each in row.failures} == failing
        assert row.provenance == f"measured on {row.device_class}"


def test_the_order_of_the_files_changes_nothing(attested_as):
    fleet = a_fleet(attested_as, random.Random(1))
    first = aggregate(fleet, EXPECTED)
    random.Random(2).shuffle(fleet)
    assert aggregate(fleet, EXPECTED) == first


def test_a_loud_device_counts_once_by_its_newest(attested_as):
    """A hundred bad numbers of the past, and a copy of a file, do not outvote what is so now."""
    bad = [
        Attested(
            attested_as(KEY, golden={"cosine_min": 0.1}, measured_at=START + timedelta(hours=i)),
            "1" * 64,
            f"bad-{i}.json",
        )
        for i in range(100)
    ]
    good = attested_as(KEY, measured_at=START + timedelta(days=90))
    now = [Attested(good, "1" * 64, "now.json"), Attested(good, "1" * 64, "copy.json")]
    [row] = aggregate([*now, *bad], EXPECTED)
    assert (row.devices, row.attestations, row.cosine_worst, row.failures) == (1, 101, 0.99, ())


def test_a_device_that_embeds_nothing_is_a_failure_and_hides_nobody(attested_as):
    blind = attested_as(KEY, golden={"refused": 16, "cosine_min": None, "cosine_mean": None})
    [row] = aggregate([Attested(blind, "1" * 64, "blind.json")], EXPECTED)
    assert row.cosine_worst is None
    [failure] = row.failures
    assert (failure.source, failure.key_id) == ("blind.json", "1" * 64)

    seeing = Attested(attested_as(KEY), "2" * 64, "seeing.json")
    [row] = aggregate([Attested(blind, "1" * 64, "blind.json"), seeing], EXPECTED)
    assert (row.cosine_worst, row.refused_images, len(row.failures)) == (0.99, 16, 1)
    section = AttestationSection(trust="self-signed", classes=(row,), refused=())
    assert section.failures == 1


def test_no_attestation_no_row():
    assert aggregate([], EXPECTED) == ()
