"""Exception handlers: each exception becomes a problem document (`problems.py`), as the OpenAPI schema states."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serverpy.api.problems import document, problem, render
from serverpy.errors import InvalidParameter, ServerPYError


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServerPYError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerPYError)
    return problem(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = first["loc"][-1] if first["loc"] else "request"
    return problem(InvalidParameter(f"`{name}`: {first['msg']}."))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":  # each path has a second route for HEAD
        headers["Allow"] = "GET, HEAD"
    return render(document(error.status_code, str(error.detail), code, f"{error.detail}."), headers)


async def _answer_bug(request: Request, error: Exception) -> Response:
    """Answer an unexpected exception without its details, which Starlette logs with the traceback."""
    return render(document(500, "The server failed", "internal", "Internal error: see the log of the server."))


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the schema without the 422 that FastAPI adds: invalid parameters are answered with a 400."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        for operations in schema["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        app.openapi_schema = schema
    return app.openapi_schema
