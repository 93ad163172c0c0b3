"""The search service over real HTTP: what it answers, and what it refuses without comparing."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import serving

from compat.errors import QueryRefusedError, SpaceError, UsageError
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from edge.search import search, search_many
from registry.gallery import Gallery, GalleryRow, build
from registry.service import MAX_BODY_BYTES, create_app

SPACE = EmbeddingSpace(family="chairs", generation=1, dim=8)
CLOUD, MEMBER, UNPROVEN = "a" * 64, "b" * 64, "f" * 64
TARGET, OUT = f"targets/chairs/{'c' * 64}.x", f"targets/chairs/{'d' * 64}.out"
GALLERY = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


def artifact(digest):
    return Artifact(
        digest=digest, size_bytes=9, runtime="onnxruntime", precision="fp32", admission_cosine=0.99
    )


def release_of(space=SPACE, cloud=CLOUD):
    shared = {"preprocess": Preprocess(size_px=32), "macs": 10, "params": 10}
    member = Member(
        name="small",
        artifacts=(artifact(MEMBER),),
        golden=Blob(digest="1" * 64, size_bytes=1),
        **shared,
    )
    return ReleaseManifest(
        family=space.family,
        version="1.2.0",
        space=space,
        cloud=Model(name="large", artifacts=(artifact(cloud),), **shared),
        members=(member,),
        report=Blob(digest="2" * 64, size_bytes=1),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("service")
    images = root / "images"
    images.mkdir()
    Image.new("RGB", (4, 4), "red").save(images / "0.png")
    (images / "1.html").write_text("<script>alert(1)</script>")
    (root / "secret.png").write_bytes((images / "0.png").read_bytes())
    (images / "link.png").symlink_to(root / "secret.png")
    paths = {
        0: "0.png",
        1: "1.html",
        2: "../secret.png",
        3: "link.png",
        4: str(root / "secret.png"),
    }
    rows = [GalleryRow(f"i{n:02d}", paths.get(n, f"{n}.png"), f"label {n % 5}") for n in range(50)]
    build(root / "gallery", GALLERY, rows, space=SPACE, model_digest=CLOUD)
    registry = root / "registry"
    for name in ("metadata/timestamp.json", "metadata/.timestamp.json.1.part", TARGET):
        (registry / name).parent.mkdir(parents=True, exist_ok=True)
        (registry / name).write_text(f"file {name}")
    (registry / ".lock").write_text("locked")
    (registry / "keys.pem").write_text("PRIVATE")
    (registry / OUT).symlink_to(root / "secret.png")
    return root


@pytest.fixture(scope="module")
def server(folders):
    app = create_app(
        folders / "registry", folders / "gallery", release_of(), images_dir=folders / "images"
    )
    with serving(app) as url:
        yield url


def post(server, content):
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{server}/v1/search", content=content, headers=headers)


def ask(server, **changes):
    question = {"space": SPACE.id, "artifact": MEMBER, "vector": GALLERY[7].tolist(), "k": 3}
    question = {key: value for key, value in (question | changes).items() if value is not ...}
    return post(server, json.dumps(question))


def raw(server, request):
    """Bytes as they are: no client in between that tidies the path."""
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_device_finds_what_the_gallery_finds(server, folders):
    queries = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    answer = search_many(server, queries, space_id=SPACE.id, artifact_digest=MEMBER, k=5)
    found = answer.results
    assert (answer.galleries, answer.left_out) == (None, 0)
    expected = Gallery.open(folders / "gallery").search(queries, 5)
    assert [[hit.id for hit in hits] for hits in found] == [[h.id for h in e] for e in expected]
    assert found[0][0].score == pytest.approx(expected[0][0].score)
    assert search(server, queries[0], space_id=SPACE.id, artifact_digest=MEMBER, k=5) == found[0]


def test_answer_names_space_and_release(server):
    answer = ask(server).json()
    assert (answer["space"], answer["release"]) == (SPACE.id, "1.2.0")
    assert answer["results"][0][0] == {
        "id": "i07",
        "label": "label 2",
        "path": "7.png",
        "score": pytest.approx(1),
        "generation": None,
    }


def test_the_cloud_model_may_query_too(server):
    assert ask(server, artifact=CLOUD).status_code == 200


def test_another_space_is_409_with_the_cure(server):
    answer = ask(server, space="chairs/g2/8/cosine")
    assert answer.status_code == 409
    assert "this gallery is of space chairs/g1/8/cosine" in answer.json()["error"]
    assert "kinspace device update" in answer.json()["cure"]


def test_another_space_is_refused_before_its_dimension_is(server):
    assert ask(server, space="chairs/g2/4/cosine", vector=[1.0] * 4).status_code == 409


def test_attack_vectors_of_an_unproven_artifact(server):
    answer = ask(server, artifact=UNPROVEN)
    assert answer.status_code == 409
    assert "does not list artifact ffffffffffff" in answer.json()["error"]
    with pytest.raises(QueryRefusedError, match="kinspace device update"):
        search(server, GALLERY[0], space_id=SPACE.id, artifact_digest=UNPROVEN)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vector": [1.0] * 7}, "7 numbers"),
        ({"vector": [0.0] * 8}, "zero or not finite"),
        ({"vector": [float("nan")] * 8}, "vector.0"),
        ({"vector": [float("inf")] * 8}, "vector.0"),
        ({"vector": [1e300] * 8}, "vector.0"),
        ({"vector": [10**400] * 8}, ""),
        ({"vector": ["1.0"] * 8}, "vector.0"),
        ({"vector": []}, "vector"),
        ({"vector": ...}, "either vector or vectors"),
        ({"vectors": [[1.0] * 8]}, "either vector or vectors"),
        ({"vector": ..., "vectors": []}, "vectors"),
        ({"vector": ..., "vectors": [[1.0] * 8] * 65}, "vectors"),
        ({"vector": ..., "vectors": [[1.0] * 8, [1.0] * 9]}, "9 numbers"),
        ({"k": 0}, "k"),
        ({"k": 101}, "k"),
        ({"k": True}, "k"),
        ({"artifact": "deadbeef"}, "artifact"),
        ({"space": ...}, "space"),
        ({"image": "aGVsbG8="}, "image"),
    ],
)
def test_a_bad_query_is_422_and_says_where(server, changes, words):
    answer = ask(server, **changes)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "cure"}
    assert words in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"9" * 5000])
def test_bytes_that_are_no_query_are_refused(server, body):
    answer = post(server, body)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error", "cure"}


def test_attack_a_body_that_never_ends(server):
    answer = post(server, b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "more than 1024 KiB" in answer.json()["error"]
    chunks = (b" " * 65536 for _ in range(40))  # chunked: no Content-Length to believe
    assert post(server, chunks).status_code == 413
    assert ask(server).status_code == 200


def test_many_devices_at_once_get_the_same_answer(server):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(server).json(), range(32)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["results"][0][0]["id"] == "i07"


def test_the_largest_query_fits(server):
    many = np.random.default_rng(2).normal(size=(64, 8)).tolist()
    answer = ask(server, vector=..., vectors=many, k=100)
    assert [len(hits) for hits in answer.json()["results"]] == [50] * 64


def test_space_and_health(server):
    assert httpx.get(f"{server}/v1/space").json() == {
        "space": SPACE.id,
        "release": "1.2.0",
        "dim": 8,
        "gallery": 50,
        "generations": [{"generation": None, "model": CLOUD, "rows": 50}],
    }
    assert httpx.get(f"{server}/healthz").json() == {"status": "ok"}


def test_registry_is_served_and_nothing_beside_it(server):
    assert httpx.get(f"{server}/registry/metadata/timestamp.json").text.startswith("file")
    assert httpx.get(f"{server}/registry/{TARGET}").status_code == 200
    for path in (
        ".lock",
        "keys.pem",
        "metadata/",
        "metadata/.timestamp.json.1.part",
        OUT,
    ):
        assert httpx.get(f"{server}/registry/{path}").status_code == 404, path
    assert httpx.post(f"{server}/registry/metadata/timestamp.json").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/registry/metadata/../keys.pem",
        "/registry/metadata/../.lock",
        "/registry/targets/../../secret.png",
        "/registry/metadata/%2e%2e/keys.pem",
        "/registry/metadata/..%2fkeys.pem",
        "/registry/metadata//etc/passwd",
        "/registry/metadata/%00",
        "/v1/images/../../secret.png",
        "/v1/images/..%2f..%2fsecret.png",
        "/v1/images/%2fetc%2fpasswd",
        "/v1/images/i00%27%20OR%20%271%27=%271",
    ],
)
def test_attack_paths_that_lead_out(server, path):
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404"), answer[:60]
    assert b"PRIVATE" not in answer
    assert b"locked" not in answer
    assert b"PNG" not in answer


def test_images_come_from_the_gallery_row(server):
    answer = httpx.get(f"{server}/v1/images/i00")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("item_id", "why"),
    [
        ("i01", "a page is no image"),
        ("i02", "leads out by .."),
        ("i03", "leads out by a link"),
        ("i04", "absolute"),
        ("i05", "gone"),
        ("i99", "unknown"),
    ],
)
def test_attack_a_gallery_row_that_leads_out(server, item_id, why):
    answer = httpx.get(f"{server}/v1/images/{item_id}")
    assert answer.status_code == 404, why
    assert set(answer.json()) == {"error", "cure"}


def test_no_images_without_a_folder(folders):
    app = create_app(folders / "registry", folders / "gallery", release_of())
    assert "/v1/images/{item_id}" not in app.openapi()["paths"]


def test_openapi_types_every_answer(folders):
    api = create_app(folders / "registry", folders / "gallery", release_of()).openapi()
    answers = api["paths"]["/v1/search"]["post"]["responses"]
    named = {
        code: each["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        for code, each in answers.items()
    }
    refusals = ("400", "408", "409", "413", "422", "429")
    assert named == {"200": "Results", **dict.fromkeys(refusals, "Refusal")}


def test_a_gallery_of_another_space_is_not_served(folders):
    other = EmbeddingSpace(family="chairs", generation=2, dim=8)
    with pytest.raises(SpaceError, match="gallery of space chairs/g1/8/cosine"):
        create_app(folders / "registry", folders / "gallery", release_of(space=other))


def test_a_gallery_of_another_model_is_not_served(folders):
    with pytest.raises(SpaceError, match="build the gallery again"):
        create_app(folders / "registry", folders / "gallery", release_of(cloud="c" * 64))


def test_without_a_gallery_the_cure_is_named(folders, tmp_path):
    with pytest.raises(UsageError, match="kinspace gallery build"):
        create_app(folders / "registry", tmp_path, release_of())
