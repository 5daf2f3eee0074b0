"""Exception handlers, which turn each exception into a problem document (`problems.py`), as the OpenAPI schema
states."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serverpy.api.problems import document, problem, render
from serverpy.api.query import fault_of
from serverpy.errors import ServerPYError


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServerPYError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerPYError)
    request.app.state.server.refusals.count(error)
    return problem(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(fault_of(error.errors()[0]))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Respond to a request for an unknown path, with a wrong method, or with a body that cannot be decoded."""
    assert isinstance(error, HTTPException)
    code = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":  # Starlette lists only the route for GET, but each path also has a route for HEAD
        headers["Allow"] = "GET, HEAD"
    return render(document(error.status_code, str(error.detail), code, f"{error.detail}."), headers)
