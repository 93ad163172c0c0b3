"""The release manifest: atomic, canonical, and open to fields of the future."""

import json

import pytest
from pydantic import ValidationError

from compat.errors import UntrustedError
from compat.manifest import (
    SUFFIX,
    Artifact,
    Channel,
    ReleaseManifest,
    blob_target,
    channel_target,
    manifest_target,
)
from compat.wire import canonical_json

ARTIFACT = {
    "digest": "a" * 64,
    "size_bytes": 10,
    "runtime": "onnxruntime",
    "precision": "int8",
    "admission_cosine": 0.99,
}
MODEL = {
    "name": "cloud",
    "preprocess": {"size_px": 96},
    "macs": 10,
    "params": 5,
    "artifacts": [ARTIFACT],
}
GOLDEN = {"digest": "9" * 64, "size_bytes": 3}
MEMBER = MODEL | {"name": "edge-s", "golden": GOLDEN}
TREE = {
    "family": "furniture",
    "version": "1.2.3",
    "space": {"family": "furniture", "generation": 1, "dim": 128},
    "cloud": MODEL,
    "members": [MEMBER],
    "report": {"digest": "f" * 64, "size_bytes": 7},
}


def manifest(**change):
    return ReleaseManifest.from_bytes(json.dumps(TREE | change).encode())


def test_bytes_and_back():
    whole = manifest()
    assert ReleaseManifest.from_bytes(whole.to_bytes()) == whole
    assert ReleaseManifest.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()


def test_one_spelling_whatever_the_order_of_keys():
    turned = json.dumps(dict(reversed(TREE.items())), indent=7).encode()
    assert ReleaseManifest.from_bytes(turned).to_bytes() == manifest().to_bytes()
    assert manifest().to_bytes().endswith(b"}\n")


def test_fields_of_the_future_survive_a_rewrite():
    """An old tool that moves a manifest must not drop what a new tool wrote."""
    member = MEMBER | {"licence": "CC0", "artifacts": [ARTIFACT | {"delegate": "npu"}]}
    again = json.loads(manifest(members=[member], notes={"a": [1]}).to_bytes())
    assert again["notes"] == {"a": [1]}
    assert again["members"][0]["licence"] == "CC0"
    assert again["members"][0]["artifacts"][0]["delegate"] == "npu"


def test_an_artifact_is_found_by_its_digest():
    found = manifest().find_artifact("a" * 64)
    assert found is not None
    member, artifact = found
    assert (member.name, artifact.label) == ("edge-s", "onnxruntime/int8")
    assert manifest().find_artifact("b" * 64) is None
    assert member.artifact("b" * 64) is None


def changed(path, value):
    """TREE with one value changed, or taken out when it is None."""
    tree = json.loads(json.dumps(TREE))
    *way, last = path
    place = tree
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], 2),
        (["family"], "../furniture"),
        (["family"], "sofas"),
        (["version"], "1.2"),
        (["version"], "01.2.3"),
        (["version"], "1.2.3\n"),
        (["version"], "1.2.3-rc1"),
        (["members"], []),
        (["members"], [MEMBER, MEMBER]),
        (["members", 0, "golden"], None),
        (["members", 0, "artifacts"], []),
        (["members", 0, "artifacts", 0, "digest"], "A" * 64),
        (["members", 0, "artifacts", 0, "digest"], "../../../etc/passwd"),
        (["members", 0, "artifacts", 0, "size_bytes"], -1),
        (["members", 0, "artifacts", 0, "size_bytes"], 2**33),
        (["members", 0, "artifacts", 0, "runtime"], "tensorrt"),
        (["members", 0, "artifacts", 0, "precision"], "int4"),
        (["members", 0, "artifacts", 0, "admission_cosine"], 1.5),
        (["members", 0, "preprocess", "size_px"], 10**6),
        (["members", 0, "preprocess", "kernel"], "x"),
        (["cloud", "macs"], 0),
        (["space", "dim"], 0),
        (["space"], None),
        (["report"], None),
    ],
    ids=str,
)
def test_attack_a_manifest_that_is_wrong_in_one_place(path, value):
    with pytest.raises(UntrustedError, match="not a release manifest"):
        ReleaseManifest.from_bytes(changed(path, value))


@pytest.mark.parametrize(
    "blob", [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"format":1}', b"[" * 100_000]
)
def test_attack_bytes_that_are_no_manifest(blob):
    for kind in (ReleaseManifest, Channel):
        with pytest.raises(UntrustedError, match="that this version reads"):
            kind.from_bytes(blob)


def test_a_manifest_is_frozen():
    with pytest.raises(ValidationError):
        manifest().version = "9.9.9"


def test_a_channel_points():
    channel = Channel(family="furniture", channel="stable", version="1.2.3")
    assert Channel.from_bytes(channel.to_bytes()) == channel
    with pytest.raises(UntrustedError):
        Channel.from_bytes(channel.to_bytes().replace(b'"1.2.3"', b'"latest"'))


def test_names_of_targets():
    assert blob_target("f", "a" * 64) == "f/blobs/" + "a" * 64
    assert manifest_target("f", "1.0.0") == "f/releases/1.0.0.json"
    assert channel_target("f", "stable") == "f/channels/stable.json"


def test_canonical_json_is_one_spelling():
    assert canonical_json({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_each_runtime_has_its_suffix():
    runtimes = Artifact.model_fields["runtime"].annotation.__args__
    assert set(SUFFIX) == set(runtimes)
