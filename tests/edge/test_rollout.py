"""Who is in a rollout: stable, fair, monotone, and careful with what it does not know."""

import numpy as np
import pytest

from compat.manifest import Channel, Requirements, Rollout
from edge.device_id import device_id
from edge.rollout import DeviceFacts, offers, place, unmet

IDS = [f"{i:032x}" for i in range(4000)]


def facts(device: str = IDS[0], **over: object) -> DeviceFacts:
    fields: dict[str, object] = {
        "device_id": device,
        "client": "0.1.0",
        "runtimes": ("onnxruntime",),
        "system": "Linux",
        "memory_bytes": 2**31,
        **over,
    }
    return DeviceFacts(**fields)


def channel(*rollouts: Rollout, name: str = "stable") -> Channel:
    return Channel(family="furniture", channel=name, version="1.0.0", rollouts=rollouts)


def staged(percent: float, **over: object) -> Rollout:
    return Rollout(version="1.1.0", percent=percent, **over)


def taken(percent: float) -> set[str]:
    one = channel(staged(percent))
    return {each for each in IDS if offers(one, facts(each), running="1.0.0")[0] == "1.1.0"}


def test_the_share_is_what_was_asked_for():
    for percent in (5, 50):
        assert len(taken(percent)) / len(IDS) == pytest.approx(percent / 100, abs=0.02)
    assert taken(0) == set()
    assert taken(100) == set(IDS)


def test_who_is_in_at_5_percent_is_in_at_50():
    assert taken(5) < taken(50) < taken(100)


def test_places_are_uniform_and_shuffled_anew_by_each_release_family_and_channel():
    def places(*words: str) -> np.ndarray:
        return np.array([place(each, *words) for each in IDS])

    first = places("furniture", "stable", "1.1.0")
    counts, _ = np.histogram(first, bins=20, range=(0, 100))
    assert (np.abs(counts - 200) < 5 * np.sqrt(200)).all()
    for other in (
        ("furniture", "stable", "1.1.1"),
        ("shoes", "stable", "1.1.0"),
        ("furniture", "canary", "1.1.0"),
    ):
        assert abs(np.corrcoef(first, places(*other))[0, 1]) < 0.06


def test_a_place_never_changes():
    """Written down once: another hash would shuffle every device under way."""
    assert place("0" * 32, "furniture", "stable", "1.1.0") == pytest.approx(97.516928)


def test_who_is_not_in_has_the_settled_release_and_who_is_in_can_fall_back_to_it():
    one = channel(staged(50))
    found = {offers(one, facts(each), running=None) for each in IDS[:50]}
    assert found == {("1.0.0",), ("1.1.0", "1.0.0")}


def test_a_paused_rollout_keeps_those_that_took_it_and_takes_no_other():
    one = channel(staged(100, paused=True))
    assert offers(one, facts(), running="1.0.0") == ("1.0.0",)
    assert offers(one, facts(), running=None) == ("1.0.0",)
    assert offers(one, facts(), running="1.1.0") == ("1.1.0", "1.0.0")


@pytest.mark.parametrize(
    ("requires", "over", "lacks"),
    [
        ({"min_client": "0.2.0"}, {}, "kinspace 0.2.0"),
        ({"min_client": "0.1.0"}, {"client": "0.1.0rc1"}, ""),
        ({"min_client": "0.10.0"}, {"client": "0.9.0"}, "kinspace 0.10.0"),
        ({"min_client": "1.0.0"}, {"client": "1.0.0+local"}, ""),
        ({"runtimes": ["litert"]}, {}, "litert"),
        ({"runtimes": ["litert", "onnxruntime"]}, {}, ""),
        ({"systems": ["Android"]}, {}, "Android"),
        ({"systems": ["Linux"]}, {}, ""),
        ({"min_memory_bytes": 2**32}, {}, "bytes of memory"),
        ({"min_memory_bytes": 1}, {"memory_bytes": 0}, "bytes of memory"),
        ({"camera": "good"}, {}, "camera, which this kinspace does not know"),
    ],
)
def test_requirements(requires, over, lacks):
    asked = Requirements.model_validate(requires)
    assert lacks in " ".join(unmet(asked, facts(**over)))
    met = offers(channel(staged(100, requires=asked)), facts(**over), running=None)
    assert met == (("1.0.0",) if lacks else ("1.1.0", "1.0.0"))


def test_rollouts_above_one_another_are_tried_from_the_newest():
    later = Rollout(version="1.2.0", percent=100, requires=Requirements(systems=("Android",)))
    one = channel(later, staged(100, requires=Requirements(systems=("Android", "Linux"))))
    assert offers(one, facts(), running=None) == ("1.1.0", "1.0.0")
    assert offers(one, facts(system="Android"), running=None) == ("1.2.0", "1.1.0", "1.0.0")
    assert offers(one, facts(system="iOS"), running=None) == ("1.0.0",)


def test_a_device_id_is_made_once_is_secret_and_random(tmp_path):
    first = device_id(tmp_path / "a")
    assert device_id(tmp_path / "a") == first != device_id(tmp_path / "b")
    assert len(bytes.fromhex(first)) == 16
    assert (tmp_path / "a" / "device_id").stat().st_mode & 0o077 == 0
    (tmp_path / "a" / "device_id").write_bytes(b"\xff" * 1000)
    assert device_id(tmp_path / "a") != first
