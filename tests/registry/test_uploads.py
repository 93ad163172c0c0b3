"""Publishing over HTTP: the good way first, then who may not, and that nothing changed."""

import json
import socket
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serving import serving
from tiles import SPACE
from tiles_release import candidate_in
from tuf.api.metadata import Metadata, Timestamp

from compat.errors import ConflictError, OfflineError, RefusedError, UsageError
from compat.files import digest_of
from compat.manifest import Channel, blob_target, channel_target
from edge.device import Device
from registry import uploads
from registry.keys import KeyFolder
from registry.metrics import Metrics
from registry.publish import publish
from registry.registry_app import create_registry_app
from registry.repository import TIMESTAMP, Repository, utc_now
from registry.storage.address import open_store
from registry.storage.files import FileStore
from registry.storage.http import HttpStore
from registry.tokens import TokenBook
from registry.upload_guard import RegistryGuard

FAMILY = SPACE.family
MONTH = timedelta(days=30)


class Place:
    """A served registry with two families, its publisher, its tokens."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        self.keys = KeyFolder(root / "keys")
        self.book = TokenBook(root / "tokens.json")
        self.folder = root / "registry"

    def token(self, *verbs: str, family: str = FAMILY, lifetime: timedelta = MONTH) -> str:
        return self.book.add((family,), verbs, lifetime=lifetime)[1]

    def publisher(self, token: str | None, **more) -> Repository:
        return Repository(HttpStore(self.url, token), self.keys, **more)

    def files(self) -> dict[str, bytes]:
        store = FileStore(self.folder)
        return {name: store.get(name, max_bytes=2**24).blob for name in store.list("")}

    def committed(self) -> bytes:
        return self.files()[TIMESTAMP]

    def device(self, home: Path) -> Device:
        device = Device(home)
        device.init(self.url, (self.root / "keys" / "root.json").read_bytes(), FAMILY)
        return device


@pytest.fixture
def place(tmp_path):
    repository = Repository(tmp_path / "registry", KeyFolder(tmp_path / "keys"))
    repository.create()
    repository.add_family(FAMILY)
    repository.add_family("shoes")
    store = FileStore(tmp_path / "registry")
    guard = RegistryGuard(store, TokenBook(tmp_path / "tokens.json"), repository.trusted_root)
    with serving(create_registry_app(store, Metrics(), guard=guard)) as url:
        yield Place(tmp_path, f"{url}/registry")


def blob(family: str, content: bytes = b"weights") -> dict[str, bytes]:
    return {blob_target(family, digest_of(content)): content}


def test_a_release_is_published_and_a_device_takes_it(place, tmp_path):
    token = place.token("publish", "promote")
    publish(place.publisher(token), candidate_in(tmp_path))
    device = place.device(tmp_path / "home")
    assert device.update().version == "1.0.0"
    before = place.files()
    publish(place.publisher(token), candidate_in(tmp_path))
    assert place.files() == before  # a repeat changes nothing
    publish(place.publisher(token), candidate_in(tmp_path, "1.0.1"))
    assert device.update().version == "1.0.1"


def test_publishing_and_promoting_are_two_rights(place):
    place.publisher(place.token("publish")).sign_targets(FAMILY, blob(FAMILY), moving={})
    pointer = Channel(family=FAMILY, channel="stable", version="1.0.0").to_bytes()
    moving = {channel_target(FAMILY, "stable"): pointer}
    before = place.committed()
    with pytest.raises(UsageError, match=f"is not for promote of family {FAMILY}"):
        place.publisher(place.token("publish")).sign_targets(FAMILY, {}, moving=moving)
    with pytest.raises(UsageError, match=f"is not for publish of family {FAMILY}"):
        place.publisher(place.token("promote")).sign_targets(FAMILY, blob(FAMILY, b"x"), moving={})
    assert place.committed() == before
    place.publisher(place.token("promote")).sign_targets(FAMILY, {}, moving=moving)
    assert place.committed() != before
    place.publisher(place.token("promote")).refresh()


def test_attack_a_token_of_another_family(place):
    """Its holder even has all keys: the token alone stops it."""
    before = place.files()
    with pytest.raises(UsageError, match="is not for publish or promote of family shoes"):
        place.publisher(place.token("publish", "promote")).sign_targets(
            "shoes", blob("shoes"), moving={}
        )
    assert place.files() == before
    with pytest.raises(UsageError, match="is not for keys of every family"):
        place.publisher(place.token("publish", "keys")).add_family("hats")
    assert place.files() == before
    place.publisher(place.token("keys", family="*")).add_family("hats")
    assert place.committed() != before[TIMESTAMP]


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "revoked"])
def test_attack_without_a_token_that_holds(place, kind):
    token = place.token("publish", lifetime=timedelta(0) if kind == "expired" else MONTH)
    if kind == "revoked":
        place.book.revoke(token[4:12])
    shown = {"none": None, "wrong": token[:-4] + "AAAA"}.get(kind, token)
    before = place.files()
    with pytest.raises(UsageError, match="HTTP 401"):
        place.publisher(shown).sign_targets(FAMILY, blob(FAMILY), moving={})
    headers = {"Authorization": f"Bearer {shown}", "If-None-Match": "*"}
    name = f"targets/{FAMILY}/blobs/{digest_of(b'x')}.x"
    refused = httpx.put(f"{place.url}/{name}", content=b"x", headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert httpx.get(place.url).status_code == 401
    assert place.files() == before


def put(place: Place, token: str, name: str, content: bytes, **headers: str) -> httpx.Response:
    sent = {"Authorization": f"Bearer {token}", "If-None-Match": "*"}
    sent |= {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.put(f"{place.url}/{name}", content=content, headers=sent)


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        (f"targets/{FAMILY}/blobs/{'a' * 64}.{'a' * 64}", b"not that", 422),
        (f"targets/shoes/blobs/{digest_of(b'x')}.x", b"x", 403),
        (f"targets/{FAMILY}/plain", b"x", 403),
        ("metadata/9.snapshot.json", b"{}", 422),
        ("metadata/9.targets.json", b"{}", 403),
        ("metadata/9.shoes.json", b"{}", 403),
        ("metadata/2.root.json", b"{}", 403),
        ("metadata/1.root.json", b"{}", 403),
        ("keys/root.pem", b"x", 403),
        ("..%2Fescape", b"x", 404),
        ("metadata/.hidden", b"x", 404),
        (f"metadata/9.{FAMILY}.json", b"x" * 5_000_001, 413),
    ],
)
def test_attack_a_file_that_is_not_ours_to_put(place, name, content, status):
    before = place.files()
    answer = put(place, place.token("publish", "promote"), name, content)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "cure"}
    assert place.files() == before


def test_attack_a_switch_that_devices_would_refuse(place, tmp_path):
    """Forged, set back, expired, naming what is not there: refused before anybody can fetch it."""
    token = place.token("publish", "promote")
    publisher = place.publisher(token)
    publisher.sign_targets(FAMILY, blob(FAMILY), moving={})
    old = place.committed()
    publisher.refresh()
    now = place.committed()
    tag = f'"{digest_of(now)}"'
    forged = Metadata[Timestamp].from_bytes(now)
    forged.signed.version += 1
    for content, words in ((forged.to_bytes(), "believed"), (old, "believed"), (b"{}", "believed")):
        answer = httpx.put(
            f"{place.url}/{TIMESTAMP}",
            content=content,
            headers={"Authorization": f"Bearer {token}", "If-Match": tag},
        )
        assert answer.status_code == 422
        assert words in answer.json()["error"]
    with pytest.raises(RefusedError, match="out of date"):
        place.publisher(token, now=lambda: utc_now() - MONTH).refresh()
    assert place.committed() == now


def test_attack_a_switch_to_targets_that_are_missing_or_spoilt(place):
    class Forgetful(HttpStore):
        def put_new(self, name, blob):
            return "" if name.startswith("targets/") else super().put_new(name, blob)

    before = place.committed()
    store = Forgetful(place.url, place.token("publish"))
    with pytest.raises(RefusedError, match="devices would refuse"):
        Repository(store, place.keys).sign_targets(FAMILY, blob(FAMILY), moving={})
    digest = digest_of(b"weights")
    path = place.folder / "targets" / FAMILY / "blobs" / f"{digest}.{digest}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weighty")
    with pytest.raises(RefusedError, match="holds other bytes"):
        Repository(store, place.keys).sign_targets(FAMILY, blob(FAMILY), moving={})
    assert place.committed() == before


def test_of_two_publishers_one_wins_and_the_other_can_retry(place):
    token = place.token("publish")
    seen = place.publisher(token).version
    place.publisher(token).refresh()
    with pytest.raises(ConflictError, match="retry"):
        place.publisher(token).sign_targets(FAMILY, blob(FAMILY), moving={}, expected=seen)
    answer = httpx.put(
        f"{place.url}/{TIMESTAMP}",
        content=place.committed(),
        headers={"Authorization": f"Bearer {token}", "If-Match": seen},
    )
    assert answer.status_code == 412
    place.publisher(token).sign_targets(FAMILY, blob(FAMILY), moving={})


def test_an_expired_registry_is_saved_by_a_refresh(place):
    """Nobody refreshed for a month: devices refuse it, the publisher's next signature is enough."""
    late = Repository(place.folder, place.keys, now=lambda: utc_now() - timedelta(days=2))
    late.refresh()
    place.publisher(place.token("publish")).refresh()


def test_a_put_needs_a_condition_and_a_token_no_clear_line(place, monkeypatch):
    token = place.token("publish")
    name = f"targets/{FAMILY}/blobs/{digest_of(b'x')}.x"
    assert put(place, token, name, b"x", If_None_Match="y").status_code == 428
    monkeypatch.setenv("KINSPACE_TOKEN", token)
    with pytest.raises(UsageError, match="in the clear"):
        open_store("http://registry.example/registry")
    for address in ("https://", "https://user:pass@host/registry", "https://host/registry?x=1"):
        with pytest.raises(UsageError, match="nothing more"):
            open_store(address)
    open_store("https://registry.example/registry")
    open_store(place.url).put_new(name, b"x")
    assert json.loads(httpx.get(place.url, headers={"Authorization": f"Bearer {token}"}).text)


def begun(place: Place, token: str) -> socket.socket:
    """An upload that says ten bytes and sends one."""
    address = urlsplit(place.url)
    line = socket.create_connection((address.hostname, address.port), timeout=30)
    name = f"targets/{FAMILY}/blobs/{digest_of(b'x')}.x"
    head = f"PUT /registry/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
    head += f"If-None-Match: *\r\nAuthorization: Bearer {token}\r\n\r\nx"
    line.sendall(head.encode())
    return line


def test_attack_uploads_that_never_end_hold_nobody_for_long(place, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_SECONDS", 6.0)
    token = place.token("publish")
    name = f"targets/{FAMILY}/blobs/{digest_of(b'y')}.y"
    with begun(place, token) as first, begun(place, token) as second:
        while (busy := put(place, token, name, b"y")).status_code == 201:
            time.sleep(0.05)  # until both are being read
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "2")
        place.publisher(token).sign_targets(FAMILY, blob(FAMILY), moving={})  # waits, goes on
        for line in (first, second):
            assert line.recv(99).startswith(b"HTTP/1.1 408")


def test_nobody_answers():
    with pytest.raises(OfflineError, match="no answer"):
        HttpStore("http://127.0.0.1:9/registry").stat("a")
