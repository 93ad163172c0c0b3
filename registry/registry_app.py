"""The HTTP application of a registry: signed files, health, metrics, and how refusals are worded.

`registry.service` adds the search of a gallery to it. Limits stand before everything: how often one
client may ask, how long a body may be and how long it may take to arrive.
"""

from typing import Literal

from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel

from compat.errors import KinspaceError
from registry.body_limit import BodyLimit
from registry.metrics import Counted, Metrics
from registry.pairing import Refusal
from registry.rate_limit import RateLimit
from registry.refusals import add_refusals, refuse
from registry.repository import TIMESTAMP
from registry.signed_files import mount_registry
from registry.storage.port import Store
from registry.upload_guard import Guard
from registry.uploads import mount_uploads

MAX_BODY_BYTES = 2**20


class Health(BaseModel):
    status: Literal["ok"] = "ok"


def create_registry_app(
    store: Store,
    metrics: Metrics,
    *,
    title: str = "kinspace registry",
    version: str = "1",
    guard: Guard | None = None,
    per_second: float | None = None,
) -> FastAPI:
    """The HTTP application of the registry in ``store``.

    Args:
        store: whose signed files are served under ``/registry/``.
        metrics: where requests are counted; served under ``/metrics``.
        title, version: of the API's description.
        guard: who may put files; None = nobody.
        per_second: requests that one client may send; None = as many as it can.
    """
    app = FastAPI(
        title=title,
        version=version,
        description="Signed files of a registry. Believe them by their signatures alone.",
        docs_url=None,  # those pages load scripts of third parties; /openapi.json stays
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    if per_second is not None:
        app.add_middleware(RateLimit, per_second=per_second)
    app.add_middleware(Counted, metrics=metrics)
    add_refusals(app)
    _add_health(app, store)
    mount_registry(app, store)
    if guard is not None:
        mount_uploads(app, store, guard)
    metrics.mount(app)
    return app


def _add_health(app: FastAPI, store: Store) -> None:
    @app.get("/healthz", tags=["status"])
    def healthz() -> Health:
        """The process answers; if not, start it anew."""
        return Health()

    @app.get("/readyz", response_model=Health, responses={503: {"model": Refusal}}, tags=["status"])
    def readyz() -> Health | Response:
        """The registry can be read; if not, send nobody here."""
        try:
            there = store.size(TIMESTAMP) is not None
        except KinspaceError as error:
            return refuse(503, Refusal(error=str(error), cure="see what --registry names"))
        if not there:
            return refuse(
                503, Refusal(error=f"{store} holds no registry", cure="kinspace keys init")
            )
        return Health()
