"""How the service words a refusal: always what is wrong and what to do about it."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from compat.errors import KinspaceError
from registry.pairing import Refusal


def refuse(status_code: int, refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.model_dump(), status_code=status_code)


def add_refusals(app: FastAPI) -> None:
    """Let every refusal of ``app`` be a `Refusal`."""
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _http_refusal)
    app.add_exception_handler(KinspaceError, _broken)


def _unreadable(_: Request, error: Exception) -> Response:
    """Says where the query is wrong without echoing it: its NaN could not be written as JSON."""
    assert isinstance(error, RequestValidationError)
    places = [
        f"{'.'.join(str(part) for part in each['loc'][1:]) or 'body'}: {each['msg']}"
        for each in error.errors()[:3]
    ]
    return refuse(422, Refusal(error="; ".join(places), cure="see /openapi.json for the form"))


def _http_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error=str(error.detail), cure="see /openapi.json for what can be asked")
    return JSONResponse(refusal.model_dump(), error.status_code, headers=error.headers)


def _broken(_: Request, error: Exception) -> Response:
    """Our own failure: the gallery or the store is damaged."""
    return refuse(500, Refusal(error=str(error), cure="tell the operator of this service"))
