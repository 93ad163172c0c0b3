"""Which artifact a device tries first: accuracy, budget, evidence; and its words when none fits."""

import pytest

from compat.attestation import Hardware
from compat.errors import AdmissionError, UsageError
from compat.files import digest_of
from compat.manifest import Artifact, Blob, Member, Model, RelativeLatency, ReleaseManifest
from compat.matrix import CompatibilityMatrix, Entry
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from edge.budget import Budget
from edge.choice import EQUAL_CROSS, choose
from edge.profile import DeviceProfile, ProbeTime

SPACE = EmbeddingSpace(family="furniture", generation=1, dim=4)
PROBE = "d" * 64
# member -> (MACs, mAP, times of the probe's latency, bytes); the large one is listed last
MEMBERS = {
    "small": (2, 0.30, 1.0, 250_000),
    "middle": (9, 0.38, 4.0, 4_000_000),
    "large": (40, 0.40, 20.0, 14_000_000),
}
FORMATS = (("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("litert", "fp32"), ("litert", "int8"))
ANY = Budget()


def digest(member: str, runtime: str = "litert", precision: str = "int8") -> str:
    return digest_of(f"{member} {runtime} {precision}".encode())


def release(*, probe: str | None = PROBE) -> ReleaseManifest:
    def artifact(member: str, runtime: str, precision: str) -> Artifact:
        _, _, ratio, size_bytes = MEMBERS[member]
        factor = 4 if precision == "fp32" else 1
        return Artifact(
            digest=digest(member, runtime, precision),
            size_bytes=size_bytes * factor,
            runtime=runtime,
            precision=precision,
            admission_cosine=0.97,
            latency=RelativeLatency(probe=probe, ratio=ratio) if probe else None,
            resident_bytes=100 * 2**20,
        )

    recipe = Preprocess(size_px=8)
    members = tuple(
        Member(
            name=name,
            preprocess=recipe,
            macs=macs,
            params=1,
            artifacts=tuple(artifact(name, *each) for each in FORMATS),
            golden=Blob(digest="0" * 64, size_bytes=1),
        )
        for name, (macs, *_) in MEMBERS.items()
    )
    cloud = artifact("large", "onnxruntime", "fp32").model_copy(update={"digest": "c" * 64})
    return ReleaseManifest(
        family="furniture",
        version="1.0.0",
        space=SPACE,
        cloud=Model(name="cloud", preprocess=recipe, macs=99, params=1, artifacts=(cloud,)),
        members=members,
        report=Blob(digest="0" * 64, size_bytes=1),
    )


def matrix(**changed: dict[str, object]) -> CompatibilityMatrix:
    """Every artifact on the gallery of 1.0.0; ``changed`` = member -> what is otherwise."""
    return CompatibilityMatrix(family="furniture").with_entries(
        Entry.model_validate(
            {
                "member": name,
                "artifact_digest": digest(name, *each),
                "runtime": each[0],
                "precision": each[1],
                "space": SPACE.id,
                "gallery_generation": "1.0.0",
                "gallery_model": "cloud",
                "gallery_digest": "c" * 64,
                "gallery_space": SPACE.id,
                "admitted": True,
                "cross": cross,
                "report_digest": "f" * 64,
                **changed.get(name, {}),
            }
        )
        for name, (_, cross, *_) in MEMBERS.items()
        for each in FORMATS
    )


def phone(
    *, probe_ms: float | None = None, runtimes=("litert", "onnxruntime"), memory_mib: int = 4096
) -> DeviceProfile:
    times = ()
    if probe_ms is not None:
        fields = {"runtime": "litert", "runtime_version": "2", "precision": "int8"}
        times = (ProbeTime(probe=PROBE, latency_ms_p50=probe_ms, **fields),)
    machine = Hardware(
        os="Linux 6", machine="aarch64", cpu_model="any", cores=4, memory_bytes=memory_mib * 2**20
    )
    return DeviceProfile(hardware=machine, runtimes=runtimes, probes=times)


def labels(profile: DeviceProfile, *, member=None, budget=ANY, of=None, proven=None) -> list[str]:
    offers = choose(of or release(), member, profile, budget=budget, matrix=proven or matrix())
    return [each.label for each in offers]


def test_without_a_limit_the_most_accurate_member_first_and_the_others_after_it():
    assert labels(phone()) == [
        f"{member} {runtime}/{precision}"
        for member in ("large", "middle", "small")
        for runtime in ("litert", "onnxruntime")
        for precision in ("int8", "fp32")
    ]


def test_only_what_runs_here_the_preferred_runtime_first():
    assert labels(phone(runtimes=("onnxruntime",)), member="small") == [
        "small onnxruntime/int8",
        "small onnxruntime/fp32",
    ]


@pytest.mark.parametrize(("probe_ms", "first"), [(0.5, "large"), (2.0, "middle"), (5.0, "small")])
def test_a_slower_device_gets_a_smaller_member_for_the_same_budget(probe_ms, first):
    """10 ms for 20, 4 and 1 times the probe."""
    found = labels(phone(probe_ms=probe_ms), budget=Budget(max_latency_ms=10))
    assert found[0] == f"{first} litert/int8"
    assert all(not label.startswith("large") for label in found) or first == "large"


def test_latency_is_the_probe_here_times_what_the_publisher_measured():
    offers = choose(release(), "middle", phone(probe_ms=2.5), budget=ANY, matrix=matrix())
    assert {each.latency_ms for each in offers} == {10.0}


def test_a_limit_of_size():
    found = labels(phone(), budget=Budget(max_size_bytes=5_000_000))
    assert found[0] == "middle litert/int8"
    assert "middle litert/fp32" not in found
    assert "small litert/fp32" in found


def test_accuracies_that_cannot_be_told_apart_are_equal_and_the_cheaper_member_wins():
    near = {"cross": MEMBERS["large"][1] - EQUAL_CROSS / 2}
    assert labels(phone(), proven=matrix(middle=near))[0] == "middle litert/int8"
    far = {"cross": MEMBERS["large"][1] - EQUAL_CROSS * 2}
    assert labels(phone(), proven=matrix(middle=far))[0] == "large litert/int8"


def test_what_the_matrix_does_not_admit_is_never_tried():
    found = labels(phone(), proven=matrix(large={"admitted": False}))
    assert not [label for label in found if label.startswith("large")]
    with pytest.raises(AdmissionError, match="matrix of furniture admits none"):
        labels(phone(), member="large", proven=matrix(large={"admitted": False}))


def test_a_family_without_a_matrix_keeps_the_order_of_its_release():
    offers = choose(release(), None, phone(), budget=ANY, matrix=None)
    assert [each.member.name for each in offers[::4]] == ["small", "middle", "large"]


def test_nothing_fits_and_the_nearest_is_named():
    budget = Budget(max_latency_ms=4, max_size_bytes=200_000)
    with pytest.raises(AdmissionError, match=r"0\.2 MB.*nearest is small \S+/int8.*1\.2 times"):
        labels(phone(probe_ms=2), budget=budget)
    with pytest.raises(AdmissionError, match=r"nearest is small .*5\.00 ms predicted.*2\.5 times"):
        labels(phone(probe_ms=5), budget=Budget(max_latency_ms=2))


@pytest.mark.parametrize("of", [release(probe=None), release(probe="e" * 64)])
def test_a_latency_that_nobody_can_predict_is_no_promise(of):
    assert labels(phone(probe_ms=1), of=of)
    with pytest.raises(AdmissionError, match="does not say how fast"):
        labels(phone(probe_ms=1), of=of, budget=Budget(max_latency_ms=100))


def test_a_device_without_the_memory_or_a_runtime():
    for device in (phone(memory_mib=64), phone(runtimes=())):
        with pytest.raises(AdmissionError, match="this device of"):
            labels(device)
    assert labels(phone(memory_mib=0))  # it does not say how much it has


def test_a_member_that_the_release_does_not_have():
    with pytest.raises(UsageError, match=r"small.*middle.*large"):
        labels(phone(), member="fridge")
