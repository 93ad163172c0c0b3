"""From a signed release to hits on a device, by the commands that people type."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import numpy as np
import onnx
import pytest
import typer
from measured import RETRIEVAL, measured
from moto.server import ThreadedMotoServer
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from compat.errors import UsageError
from compat.files import digest_of
from compat.golden import GoldenSet
from compat.images import read_image
from compat.manifest import Artifact, Blob, Member, Model
from compat.policy import Policy
from compat.preprocess import Preprocess
from compat.report import (
    CloudEvidence,
    Evidence,
    Report,
    Timing,
)
from compat.space import EmbeddingSpace
from edge.device import Device
from edge.embedder import open_embedder
from registry.cli_gallery import gallery_app
from registry.cli_publish import keys_app
from registry.cli_search import search
from registry.cli_serve import listen
from registry.keys import KeyFolder
from registry.publish import Candidate, publish
from registry.repository import TIMESTAMP, Repository
from registry.storage.address import open_store

SPACE = EmbeddingSpace(family="tiles", generation=1, dim=4)
RECIPE = Preprocess(size_px=8)
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (20, 40, 210),
    "grey": (90, 90, 90),
}
SERVE = "import typer; from registry.cli_serve import serve; typer.run(serve)"

search_app = typer.Typer()
search_app.command()(search)


def graph(noise: float) -> bytes:
    """(N, 8, 8, 3) -> mean colour through a fixed matrix -> (N, 4); ``noise`` moves it a little."""
    weights = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32) + np.float32(noise)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["embedding"]),
    ]
    made = helper.make_graph(
        nodes,
        "tiles",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 13)]
    blob: bytes = onnx.helper.make_model(
        made, opset_imports=opset, ir_version=9
    ).SerializeToString()
    return blob


def named(blob: bytes) -> Artifact:
    return Artifact(
        digest=digest_of(blob),
        size_bytes=len(blob),
        runtime="onnxruntime",
        precision="fp32",
        admission_cosine=0.99,
    )


def report_of(cloud: Artifact, member: Artifact) -> bytes:
    sizes = {"size_bytes": member.size_bytes, "macs": 9, "params": 9}
    return Report(
        family=SPACE.family,
        space=SPACE,
        evidence=Evidence(dataset_digest="d" * 64, split="test", queries=9, gallery=9, classes=9),
        cloud=CloudEvidence(name="large", digest=cloud.digest, paragon=RETRIEVAL, **sizes),
        artifacts=(measured(member, "small"),),
        policy=Policy(),
        timing=Timing(machine="m", artifacts=()),
    ).to_bytes()


def candidate_in(root: Path) -> Candidate:
    """A release candidate, whose data set is in data/."""
    rows = ["path,label,split,role"]
    for name, colour in COLOURS.items():
        for role in ("query", "gallery"):
            path = root / "data" / f"{name}-{role}.png"
            path.parent.mkdir(exist_ok=True)
            shade = tuple(min(255, c + (10 if role == "query" else 0)) for c in colour)
            Image.new("RGB", (12, 9), shade).save(path)
            rows.append(f"{path.name},{name},test,{role}")
    (root / "data" / "manifest.csv").write_text("\n".join(rows))
    large, small = graph(0.0), graph(0.01)
    (root / "small.onnx").write_bytes(small)
    embedder = open_embedder(root / "small.onnx", "onnxruntime", RECIPE, SPACE.dim)
    photo = read_image(root / "data" / "red-query.png")
    golden = GoldenSet(
        images=(photo,),
        pixels=RECIPE.pixels(photo)[None],
        embeddings={digest_of(small): embedder.embed_images([photo])},
    ).to_bytes()
    shared = {"preprocess": RECIPE, "macs": 9, "params": 9}
    blob = Blob(digest=digest_of(golden), size_bytes=len(golden))
    return Candidate(
        version="1.0.0",
        space=SPACE,
        report=report_of(named(large), named(small)),
        cloud=Model(name="large", artifacts=(named(large),), **shared),
        members=(Member(name="small", artifacts=(named(small),), golden=blob, **shared),),
        blobs={digest_of(each): each for each in (large, small, golden)},
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """registry/, keys/ and data/ of one family, published as 1.0.0."""
    root = tmp_path_factory.mktemp("tiles")
    candidate = candidate_in(root)
    repository = Repository(root / "registry", KeyFolder(root / "keys"))
    repository.create()
    repository.add_family(SPACE.family)
    publish(repository, candidate)
    return root


def run(app, *arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def build(root: Path, *more):
    where = ("--registry", root / "registry", "--data", root / "data", "--gallery", root / "g")
    return run(gallery_app, "build", *where, "--family", SPACE.family, *more)


def test_gallery_build_then_status(published):
    built = build(published)
    assert built.exit_code == 0, built.output
    assert "4 images" in built.stdout
    counted = run(gallery_app, "status", "--gallery", published / "g", "--json")
    (status,) = json.loads(counted.stdout)
    assert (status["space_id"], status["rows"]) == (SPACE.id, 4)
    assert status["generations"] == [{"model_digest": digest_of(graph(0.0)), "rows": 4}]
    shown = run(gallery_app, "status", "--gallery", published / "g").stdout
    assert shown.startswith("tiles/g1/4/cosine: 4 images")


def test_a_photo_on_a_device_finds_its_like(published, tmp_path):
    assert build(published).exit_code == 0
    device = Device(tmp_path / "home")
    device.init(
        str(published / "registry"), (published / "keys" / "root.json").read_bytes(), "tiles"
    )
    device.update()
    command = [sys.executable, "-c", SERVE, "--registry", str(published / "registry")]
    command += ["--gallery", str(published / "g"), "--family", "tiles", "--port", "0"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            photo = published / "data" / "green-query.png"
            asked = ("--home", tmp_path / "home", "--server", url, photo, "-k", 2)
            found = run(search_app, *asked, "--json")
            assert found.exit_code == 0, found.output
            answer = json.loads(found.stdout)
            assert answer["hits"][0]["label"] == "green"
            assert answer["hits"][0]["path"] == "green-gallery.png"
            assert (answer["space"], answer["member"]) == (SPACE.id, "small")
            lines = run(search_app, *asked).stdout.splitlines()
            assert len(lines) == 2
            assert lines[0].split()[0] == "1"
            assert "green" in lines[0]
        finally:
            server.terminate()


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """The address of an empty bucket behind real HTTP."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="tiles")
    yield f"s3://tiles/registry?endpoint={url}&region=us-east-1&style=path"
    server.stop()


def test_from_a_bucket_to_a_device(bucket, tmp_path):
    """The registry is never on a disk: published, embedded from and served out of the bucket."""
    keys = tmp_path / "keys"
    forgot = run(keys_app, "init", bucket)
    assert (forgot.exit_code, "--keys" in forgot.stderr) == (2, True)
    made = run(keys_app, "init", bucket, "--keys", keys, "--family", "tiles")
    assert made.exit_code == 0, made.output
    publish(Repository(open_store(bucket), KeyFolder(keys)), candidate_in(tmp_path))
    assert run(keys_app, "refresh", bucket, "--keys", keys).exit_code == 0
    built = build(tmp_path, "--registry", bucket)
    assert "4 images" in built.stdout, built.output
    command = [sys.executable, "-c", SERVE, "--registry", bucket, "--family", "tiles"]
    command += ["--gallery", str(tmp_path / "g"), "--port", "0"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = server.stdout.readline().strip()
            device = Device(tmp_path / "home")
            device.init(f"{url}/registry/", (keys / "root.json").read_bytes(), "tiles")
            assert device.update().version == "1.0.0"
            first = httpx.get(f"{url}/registry/metadata/timestamp.json")
            assert first.content == open_store(bucket).get(TIMESTAMP, max_bytes=9999).blob
            seen = {"If-None-Match": first.headers["etag"]}
            assert httpx.get(first.url, headers=seen).status_code == 304
            assert httpx.head(first.url).headers["content-length"] == str(len(first.content))
            for name in ("metadata/9.root.json", "metadata/.x", "keys/a", "targets/..%2Fa"):
                assert httpx.get(f"{url}/registry/{name}").status_code == 404, name
        finally:
            server.terminate()


def test_a_bucket_that_does_not_answer_is_exit_3(published, tmp_path, monkeypatch):
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    gone = "s3://tiles?endpoint=http://127.0.0.1:9&region=us-east-1&style=path"
    refused = build(published, "--registry", gone, "--gallery", tmp_path / "new")
    assert refused.exit_code == 3, refused.output
    assert not (tmp_path / "new").exists()


def test_without_a_server_it_is_offline_exit_3(published, tmp_path):
    device = Device(tmp_path / "home")
    device.init(
        str(published / "registry"), (published / "keys" / "root.json").read_bytes(), "tiles"
    )
    device.update()
    photo = published / "data" / "green-query.png"
    where = ("--home", tmp_path / "home", "--server", "http://127.0.0.1:1")
    assert run(search_app, *where, photo).exit_code == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--family", "sofas"), "sofas"),
        (("--registry", "nowhere"), "no registry"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_built(published, tmp_path, options, words):
    refused = build(published, "--gallery", tmp_path / "new", *options)
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_bad_image_is_named_and_the_old_gallery_stays(published, tmp_path):
    assert build(published).exit_code == 0
    rows = ["path,label,split,role", "fine.png,a,test,gallery", "bad.png,b,test,gallery"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    Image.new("RGB", (9, 9)).save(tmp_path / "fine.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    refused = build(published, "--data", tmp_path)
    assert refused.exit_code == 2
    assert "bad.png" in refused.stderr
    assert "4 images" in run(gallery_app, "status", "--gallery", published / "g").stdout


def test_attack_the_registry_holds_another_cloud_model(published, tmp_path):
    """The bytes under the cloud model's name were swapped: nothing is embedded with them."""
    forged = tmp_path / "registry"
    shutil.copytree(published / "registry", forged)
    (stored,) = forged.glob(f"targets/tiles/blobs/*{digest_of(graph(0.0))}")
    stored.write_bytes(graph(0.5)[: stored.stat().st_size].ljust(stored.stat().st_size, b"\0"))
    refused = build(published, "--registry", forged, "--gallery", tmp_path / "g")
    assert refused.exit_code == 4, refused.output
    assert not (tmp_path / "g").exists()


def test_a_taken_port_is_named(published):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            listen("127.0.0.1", port)
