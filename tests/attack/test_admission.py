"""Releases that are signed and whole, and do not work on this device."""

import dataclasses

import pytest

from compat.errors import AdmissionError, UntrustedError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.manifest import Blob, Channel, blob_target, channel_target, manifest_target
from compat.matrix import matrix_target
from edge.budget import Budget
from registry.matrix import stored_matrix


def digests(manifest, runtime: str = "onnxruntime") -> dict[str, str]:
    """precision -> digest, of the first member's artifacts for one runtime."""
    return {
        each.precision: each.digest
        for each in manifest.members[0].artifacts
        if each.runtime == runtime
    }


def test_an_artifact_that_computes_something_else_here_gives_way_to_the_next(small):
    manifest = small.publish("1.0.0", seed=1)
    assert small.device("good").update().artifact == "onnxruntime/int8"
    device = small.device(broken=frozenset({digests(manifest)["int8"]}))
    outcome = device.update()
    assert outcome.artifact == "onnxruntime/fp32"
    assert "onnxruntime/int8" in outcome.refused[0]
    kept = {path.name for path in (device.home / "blobs").iterdir()}
    assert digests(manifest)["int8"] not in kept
    assert device.update().changed is False  # the refused one is not tried again each time


def test_a_member_of_which_nothing_works_here_gives_way_to_the_next(small):
    manifest = small.publish("1.0.0", seed=1)
    device = small.device(broken=frozenset(digests(manifest).values()))
    outcome = device.update()
    assert (outcome.member, outcome.artifact) == ("watch", "onnxruntime/int8")
    assert [reason.partition(":")[0] for reason in outcome.refused] == [
        "phone onnxruntime/int8",
        "phone onnxruntime/fp32",
    ]


def test_a_release_of_which_nothing_works_here_changes_nothing(small, running):
    small.publish("1.0.0", seed=1)
    device = small.device(member="phone")
    device.update()
    before = running(device)
    manifest = small.publish("1.1.0", seed=2)
    device = small.open(device.home, broken=frozenset(digests(manifest).values()))
    with pytest.raises(AdmissionError, match=r"int8.*fp32"):
        device.update()
    assert running(device) == before
    assert device.status().last_update.exit_code == 5
    small.publish("1.2.0", seed=3)
    assert device.update().version == "1.2.0"
    assert device.status().previous.version == "1.0.0"


def test_an_artifact_slower_than_granted_gives_way_until_more_is_granted(small, running):
    """Predicted a quarter of the probe's time; this device's own clock has the last word."""
    manifest = small.publish("1.0.0", seed=1)
    slow, budget = frozenset({digests(manifest)["int8"]}), Budget(max_latency_ms=30)
    device = small.device(slow=slow, budget=budget)
    outcome = device.update()
    assert outcome.artifact == "onnxruntime/fp32"
    assert "30 ms are granted" in outcome.refused[0]
    assert 0 < outcome.latency_ms < 30
    assert device.update().changed is False
    probes = device.profile().probes
    assert [(each.runtime, each.precision) for each in probes] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ]
    root, before = small.repository.trusted_root, running(device)
    tiny = Budget(max_latency_ms=probes[0].latency_ms_p50 / 1000)
    device.init(str(small.folder), root, "furniture", budget=tiny)
    with pytest.raises(AdmissionError, match="the nearest is"):
        device.update()
    assert running(device) == before
    device.init(str(small.folder), root, "furniture", budget=Budget(max_latency_ms=5000))
    assert device.update().artifact == "onnxruntime/int8"
    assert device.profile().probes == probes  # measured once


def test_a_signed_artifact_that_is_no_model(small, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    sign_broken(small, artifact=b"no model at all")
    with pytest.raises(AdmissionError, match="is no linear model"):
        device.update()
    assert running(device) == before


def test_a_golden_set_that_is_silent_on_the_artifact(small, running):
    """Parts of two releases under one signature: the golden set gives the mix away."""
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    golden = small.released["1.0.0"].members[1].golden
    path = small.folder / "targets" / "furniture" / "blobs" / f"{golden.digest}.{golden.digest}"
    sign_broken(small, golden=path.read_bytes())
    with pytest.raises(UntrustedError):
        device.update()
    assert running(device) == before


def test_golden_embeddings_of_another_dimension(small, running):
    small.publish("1.0.0", seed=1)
    device = small.device()
    device.update()
    before = running(device)
    member = small.released["1.0.0"].members[0]
    path = small.folder / f"targets/furniture/blobs/{member.golden.digest}.{member.golden.digest}"
    golden = GoldenSet.from_bytes(path.read_bytes())
    cut = {digest: rows[:, :3] for digest, rows in golden.embeddings.items()}
    sign_broken(small, golden=dataclasses.replace(golden, embeddings=cut).to_bytes())
    with pytest.raises(AdmissionError):
        device.update()
    assert running(device) == before


def sign_broken(small, *, artifact: bytes | None = None, golden: bytes | None = None):
    """Sign a release 1.1.0 past the gate, with a part exchanged."""
    manifest = small.released["1.0.0"]
    member, blobs = manifest.members[0], {}
    matrix = stored_matrix(small.repository, "furniture")
    if artifact is not None:
        admitted = matrix.find(artifact_digest=member.artifacts[0].digest, gallery="1.0.0")
        changed = admitted.model_copy(update={"artifact_digest": digest_of(artifact)})
        matrix = matrix.with_entries([changed])
        named = {"digest": digest_of(artifact), "size_bytes": len(artifact)}
        spoilt = tuple(each.model_copy(update=named) for each in member.artifacts)
        member = member.model_copy(update={"artifacts": spoilt})
        blobs[blob_target("furniture", named["digest"])] = artifact
    if golden is not None:
        blob = Blob(digest=digest_of(golden), size_bytes=len(golden))
        member = member.model_copy(update={"golden": blob})
        blobs[blob_target("furniture", blob.digest)] = golden
    broken = manifest.model_copy(update={"version": "1.1.0", "members": (member,)})
    pointer = Channel(family="furniture", channel="stable", version="1.1.0")
    small.repository.sign_targets(
        "furniture",
        {**blobs, manifest_target("furniture", "1.1.0"): broken.to_bytes()},
        moving={
            channel_target("furniture", "stable"): pointer.to_bytes(),
            matrix_target("furniture"): matrix.to_bytes(),
        },
    )
