"""A registry's files over real HTTP: whole, in parts, from a cache, or not at all."""

from types import SimpleNamespace

import httpx
import pytest
from serving import serving

from compat.errors import OfflineError
from compat.files import digest_of
from registry.metrics import Metrics
from registry.rate_limit import RateLimit
from registry.registry_app import create_registry_app
from registry.signed_files import CHUNK_BYTES
from registry.storage import http
from registry.storage.files import FileStore
from registry.storage.http import HttpStore
from registry.storage.memory import MemoryStore

BLOB = bytes(range(256)) * 40_000  # 10 MB: more than two pieces
TARGET = f"targets/chairs/blobs/{digest_of(BLOB)}.{digest_of(BLOB)}"
FILES = {
    TARGET: BLOB,
    "metadata/timestamp.json": b'{"now": 1}',
    "metadata/12.snapshot.json": b'{"all": 1}',
    "keys/root.pem": b"PRIVATE",
    "metadata/notes.txt": b"PRIVATE",
    "targets/chairs/blobs/plain": b"PRIVATE",
}


class WatchedStore(MemoryStore):
    """Knows how much was read at once, and can be gone."""

    most_bytes = 0
    gone = False

    def get_range(self, name, start, *, n_bytes):
        self.most_bytes = max(self.most_bytes, n_bytes)
        return super().get_range(name, start, n_bytes=n_bytes)

    def size(self, name):
        if self.gone:
            raise OfflineError("gone")
        return super().size(name)


@pytest.fixture(scope="module")
def store():
    return WatchedStore()


@pytest.fixture(scope="module")
def url(store):
    for name, blob in FILES.items():
        store.put_new(name, blob)
    with serving(create_registry_app(store, Metrics())) as address:
        yield f"{address}/registry"


def test_a_target_is_streamed_and_kept_by_caches_for_good(url, store):
    answer = httpx.get(f"{url}/{TARGET}")
    assert answer.content == BLOB
    assert answer.headers["etag"] == f'"{digest_of(BLOB)}"'
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    assert 0 < store.most_bytes <= CHUNK_BYTES < len(BLOB)


def test_a_broken_download_goes_on_where_it_was(url):
    tag = httpx.head(f"{url}/{TARGET}").headers["etag"]
    begun = httpx.get(f"{url}/{TARGET}", headers={"Range": "bytes=0-4999999"})
    rest = httpx.get(f"{url}/{TARGET}", headers={"Range": "bytes=5000000-", "If-Range": tag})
    assert (begun.status_code, rest.status_code) == (206, 206)
    assert rest.headers["content-range"] == f"bytes 5000000-{len(BLOB) - 1}/{len(BLOB)}"
    assert begun.content + rest.content == BLOB
    other = httpx.get(f"{url}/{TARGET}", headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, BLOB)
    behind = httpx.get(f"{url}/{TARGET}", headers={"Range": f"bytes={len(BLOB)}-"})
    assert (behind.status_code, behind.content) == (416, b"")
    assert behind.headers["content-range"] == f"bytes */{len(BLOB)}"


def test_metadata_changes_only_under_its_one_name(url, store):
    answer = httpx.get(f"{url}/metadata/12.snapshot.json")
    assert answer.headers["cache-control"].endswith("immutable")
    assert answer.headers["content-type"] == "application/json"
    now = httpx.get(f"{url}/metadata/timestamp.json")
    assert now.headers["cache-control"] == "public, max-age=30"
    seen = {"If-None-Match": now.headers["etag"]}
    known = httpx.get(f"{url}/metadata/timestamp.json", headers=seen)
    assert (known.status_code, known.content) == (304, b"")
    version = store.stat("metadata/timestamp.json").version
    store.replace("metadata/timestamp.json", b'{"now": 2}', expected=version)
    new = httpx.get(f"{url}/metadata/timestamp.json", headers=seen)
    assert (new.status_code, new.content) == (200, b'{"now": 2}')


@pytest.mark.parametrize("name", ["metadata/12.snapshot.json", TARGET])
def test_head_says_what_get_says(url, name):
    head, get = httpx.head(f"{url}/{name}"), httpx.get(f"{url}/{name}")
    assert head.content == b""
    for each in ("content-length", "etag", "cache-control", "content-type", "accept-ranges"):
        assert head.headers[each] == get.headers[each]
    assert httpx.head(f"{url}/{name}", headers={"Range": "bytes=0-1"}).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["keys/root.pem", "metadata/notes.txt", "targets/chairs/blobs/plain", "metadata/", "",
     "metadata", "metadata/13.root.json", f"targets/chairs/{'a' * 64}.b",
     "metadata/" + "9" * 900 + ".a.json"],
)  # fmt: skip
def test_what_is_not_signed_or_not_there_is_404_and_no_cache_keeps_that(url, name):
    answer = httpx.get(f"{url}/{name}")
    assert answer.status_code == 404
    assert b"PRIVATE" not in answer.content
    assert set(answer.json()) == {"error", "cure"}
    if name.startswith(("metadata/1", "targets/chairs/a")):
        assert answer.headers["cache-control"] == "no-store"


def test_nothing_is_written_without_a_guard(url):
    answer = httpx.put(f"{url}/metadata/timestamp.json", content=b"x")
    assert answer.status_code == 405


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(BLOB)
    path = tmp_path / "registry" / TARGET
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    with serving(create_registry_app(FileStore(tmp_path / "registry"), Metrics())) as address:
        assert httpx.get(f"{address}/registry/{TARGET}").status_code == 404
        path.unlink()
        path.write_bytes(BLOB)
        assert httpx.get(f"{address}/registry/{TARGET}").content == BLOB


def test_health_readiness_and_what_is_counted(url, store):
    address = url.removesuffix("/registry")
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{address}/readyz").json() == {"status": "ok"}
    store.gone = True
    try:
        assert httpx.get(f"{address}/healthz").status_code == 200
        for path in ("readyz", f"registry/{TARGET}"):
            refused = httpx.get(f"{address}/{path}")
            assert (refused.status_code, set(refused.json())) == (503, {"error", "cure"})
    finally:
        store.gone = False
    for number in range(3):
        httpx.get(f"{address}/nowhere/{number}")
        httpx.get(f"{url}/metadata/{number + 50}.root.json")
    httpx.request("BREW", f"{address}/nowhere")
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("kinspace_requests"))
    assert float(counted['kinspace_requests_total{method="GET",route="/readyz",status="503"}']) == 1
    missed = 'kinspace_requests_total{method="GET",route="unmatched",status="404"}'
    assert float(counted[missed]) == 3
    assert 'kinspace_requests_total{method="other",route="unmatched",status="404"}' in counted
    assert not [line for line in lines if "root.json" in line or "nowhere" in line]
    assert 'kinspace_request_seconds_bucket{le="+Inf",route="/registry/{name:path}"}' in "\n".join(
        lines
    )


def test_a_publisher_that_asks_too_often_is_told_to_wait_and_does(monkeypatch):
    waits = []
    app = create_registry_app(MemoryStore(), Metrics())
    limited = RateLimit(app, per_second=1, now=lambda: float(sum(waits)))
    monkeypatch.setattr(http, "time", SimpleNamespace(sleep=waits.append))
    with serving(limited) as address:
        store = HttpStore(f"{address}/registry")
        assert [store.stat("metadata/timestamp.json") for _ in range(12)] == [None] * 12
    assert waits == [1, 1]  # ten at once, then one a second


def test_an_empty_store_is_not_ready():
    with serving(create_registry_app(MemoryStore(), Metrics())) as address:
        refused = httpx.get(f"{address}/readyz")
        assert refused.status_code == 503
        assert "holds no registry" in refused.json()["error"]
