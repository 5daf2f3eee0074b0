"""The HTTP responses for errors: the only table that maps error classes to status codes, and the problem documents (RFC
9457)."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from serverpy import errors
from serverpy.errors import CapacityError, RangeNotSatisfiable, ServerPYError

STATUS: dict[type[ServerPYError], tuple[int, str]] = {
    errors.InvalidUrl: (400, "Invalid URL"),
    errors.InvalidParameter: (400, "Invalid parameter"),
    errors.KeyRequired: (401, "A key is required"),
    errors.KeyInvalid: (401, "The key is invalid"),
    errors.KeyForbids: (403, "Not allowed"),
    errors.LinkInvalid: (403, "The link is invalid"),
    errors.LinkExpired: (403, "The link has expired"),
    errors.TargetForbidden: (403, "The address may not be reached"),
    errors.SiteForbidden: (403, "The site is not allowed on this server"),
    errors.GeoRestricted: (403, "The site refuses this server's country"),
    errors.LoginRequired: (403, "The site requires a login"),
    errors.DrmProtected: (403, "The media is encrypted with DRM"),
    errors.MediaNotFound: (404, "No media found"),
    errors.FormatNotFound: (404, "No such format"),
    errors.ItemNotFound: (404, "No such item"),
    errors.PreconditionFailed: (412, "Precondition failed"),
    errors.TooLarge: (413, "Too large"),
    errors.UrlTooLong: (414, "URL too long"),
    errors.NotMedia: (415, "Not media"),
    errors.RangeNotSatisfiable: (416, "Range not satisfiable"),
    errors.HostUnknown: (421, "Unknown host"),
    errors.UnsupportedConversion: (422, "Unsupported conversion"),
    errors.HeadersTooLarge: (431, "Header fields too large"),
    errors.RateLimited: (429, "Too many requests"),
    errors.QuotaExceeded: (429, "The quota is used up"),
    errors.NotInstalled: (501, "Not installed on this server"),
    errors.ExtractionFailed: (502, "The page could not be read"),
    errors.UpstreamFailed: (502, "The media server failed"),
    errors.Busy: (503, "The server is busy"),
    errors.Draining: (503, "The server is about to stop"),
    errors.ExtractionTimeout: (504, "The page took too long"),
    errors.UpstreamTimeout: (504, "The media server took too long"),
}
"""Maps error classes to the status and title of the response. `ConfigurationError` is missing, because it is raised
only when the server starts."""

MEDIA_TYPE = "application/problem+json"
Fields = Iterable[tuple[bytes, bytes]]
_PHRASES = {each.value: each.phrase for each in HTTPStatus}


def new_request_id() -> str:
    """Make an id for a request that has none."""
    return secrets.token_hex(8)


def row(error: ServerPYError) -> tuple[int, str]:
    """Return the status and title for `error`, from the nearest base class in `STATUS`."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), (500, "The server failed"))


def document(status: int, title: str, code: str, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}


def raw_problem(error: ServerPYError, common: Fields, *, has_body: bool = True) -> bytes:
    """Return, as bytes, the response to a request that the server refuses before the request reaches the application.
    `common` are further header fields. `has_body` is false for a HEAD request."""
    status, title = row(error)
    more = [(b"Retry-After", b"%d" % error.retry_after)] if isinstance(error, CapacityError) else []
    return raw_answer(document(status, title, error.code, error.detail), [*common, *more], has_body=has_body)


def raw_answer(content: dict[str, Any], common: Fields, *, has_body: bool = True) -> bytes:
    """Return, as bytes, a response with the problem document `content`. Its head announces that the connection ends.
    `common` are further header fields. `has_body` is false for a HEAD request."""
    body, status = json.dumps(content).encode(), content["status"]
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-ID: {new_request_id()}\r\n"
        "Cross-Origin-Resource-Policy: same-site\r\n"
        "Referrer-Policy: no-referrer\r\nX-Robots-Tag: noindex, nofollow\r\nConnection: close\r\n"
    )
    return head.encode() + b"".join(b"%s: %s\r\n" % field for field in common) + b"\r\n" + body * has_body


def problem(error: ServerPYError) -> Response:
    """Make the response to a request that failed before the server sent the first byte of a response."""
    status, title = row(error)
    headers = {"Cache-Control": "no-store"}
    # a 401 response must have WWW-Authenticate (RFC 9110 §11.6.1); `api/access.py` may also offer Basic
    if status == 401:
        fault = ', error="invalid_token"' if isinstance(error, errors.KeyInvalid) else ""
        headers["WWW-Authenticate"] = f'Bearer realm="ServerPY"{fault}'
    if isinstance(error, CapacityError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, RangeNotSatisfiable):
        headers["Accept-Ranges"] = "bytes"
        # RFC 9110 §14.4 defines no Content-Range for a 416 response if the length of the file is unknown
        if error.size is not None:
            headers["Content-Range"] = f"bytes */{error.size}"
    return render(document(status, title, error.code, error.detail), headers)


def internal_error() -> Response:
    """Make the response to an unexpected exception. The response does not show the details of the exception."""
    return render(document(500, "The server failed", "internal", "Internal error: see the log of the server."))


def render(content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False).encode()
    return Response(body, content["status"], headers, MEDIA_TYPE)


def examples(*kinds: type[ServerPYError]) -> dict[int | str, dict[str, Any]]:
    """Make the `responses=` of a FastAPI route: one entry for each status code, with an example for each error code."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = STATUS[kind]
        entry = found.setdefault(
            status, {"description": "", "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "examples": {}}}}
        )
        entry["description"] = ", ".join(filter(None, (entry["description"], f"`{kind.code}`")))
        entry["content"][MEDIA_TYPE]["examples"] |= example(status, title, kind.code)
    return found


def example(status: int, title: str, code: str) -> dict[str, Any]:
    """Return a dictionary for the OpenAPI schema that maps `code` to an example of a problem document."""
    return {code: {"value": document(status, title, code, f"{title}.")}}


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable identifier of the kind of error."},
        "detail": {"type": "string", "description": "One sentence for a person."},
    },
}
