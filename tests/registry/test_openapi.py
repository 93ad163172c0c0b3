"""The published description against the service: no 5xx, and only answers that it describes."""

from contextlib import suppress
from datetime import timedelta

import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tiles import SPACE
from tiles_release import candidate_in

from registry.gallery import GalleryRow, build
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import Repository
from registry.service import create_app
from registry.storage.files import FileStore
from registry.tokens import TokenBook
from registry.upload_guard import RegistryGuard

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A registry with a release, a gallery of it, and a token for everything."""
    root = tmp_path_factory.mktemp("api")
    repository = Repository(root / "registry", KeyFolder(root / "keys"))
    repository.create()
    repository.add_family(SPACE.family)
    release = publish(repository, candidate_in(root))
    rows = [GalleryRow(f"i{n}", f"{n}.png", "tile") for n in range(3)]
    embeddings = np.eye(3, SPACE.dim, dtype=np.float32)
    digest = release.cloud.artifacts[0].digest
    build(root / "gallery", embeddings, rows, space=SPACE, model_digest=digest)
    book = TokenBook(root / "tokens.json")
    _, token = book.add(("*",), ("publish", "promote", "keys"), lifetime=timedelta(days=1))
    store = FileStore(root / "registry")
    guard = RegistryGuard(store, book, repository.trusted_root)
    app = create_app(store, root / "gallery", release, images_dir=root / "data", guard=guard)
    return app, token


def exercise(app: FastAPI, tag: str | None, headers: dict[str, str]) -> set[str]:
    """Ask each operation of a tag, rightly and wrongly; which were asked."""
    described = schemathesis.openapi.from_asgi("/openapi.json", app)
    asked = set()
    for found in described.get_all_operations():
        operation = found.ok()
        if tag is not None and tag not in (operation.tags or ()):
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _exercise_one(operation, mode, headers)
        asked.add(operation.label)
    return asked


def _exercise_one(operation: APIOperation, mode: GenerationMode, headers: dict[str, str]) -> None:
    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, headers=headers)

    with suppress(Unsatisfiable):  # what takes no input cannot be asked wrongly
        check()


def test_a_stranger_gets_what_is_described(place):
    asked = exercise(place[0], None, {})
    assert {"POST /v1/search", "PUT /registry/{name}", "GET /readyz"} <= asked


def test_whoever_has_a_token_gets_what_is_described(place):
    asked = exercise(place[0], "publishing", {"Authorization": f"Bearer {place[1]}"})
    assert asked == {"GET /registry", "PUT /registry/{name}"}


def test_every_route_is_described_but_the_metrics(place):
    paths = place[0].openapi()["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/registry",
        "/registry/{name}",
        "/v1/images/{item_id}",
        "/v1/search",
        "/v1/space",
    }
    assert set(paths["/registry/{name}"]) == {"get", "head", "put"}
