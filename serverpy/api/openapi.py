"""The parts of the OpenAPI schema (`/openapi.json`) that FastAPI cannot derive from the signatures of the routes:
header fields, media types, and every error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from serverpy import errors
from serverpy.access.credentials import COOKIE
from serverpy.access.rules import Need, need_of
from serverpy.api.problems import MEDIA_TYPE, PROBLEM_SCHEMA, example, examples
from serverpy.containers import BY_EXTENSION, UNKNOWN
from serverpy.tasks import in_thread

MOST_WAITING = 16
"""Maximum number of requests that wait at the same time until the OpenAPI schema is built. Each of them occupies one
of the limited number of client connections."""

ACCESS_ERRORS = (errors.KeyRequired, errors.KeyInvalid, errors.KeyForbids, errors.RateLimited)
"""Errors with which the gate (`access/gate.py`) refuses a request that may need a key."""
_COMMON_ERRORS = (
    errors.TooLarge, errors.UrlTooLong, errors.HostUnknown, errors.HeadersTooLarge, errors.RateLimited, errors.Busy,
    errors.Draining,
)  # fmt: skip
"""Errors with which the server may refuse each request, before a route handles the request."""
_COMMON_EXAMPLES = {
    400: example(400, "Bad request", "bad_request"),
    405: example(405, "Method Not Allowed", "method_not_allowed"),
    500: example(500, "The server failed", "internal"),
}
"""Examples of the errors without an exception class that every path may return, by status. The server responds with 405
to a method that the path does not support."""
_ERRORS = (
    errors.KeyForbids, errors.RateLimited, errors.QuotaExceeded,
    errors.InvalidUrl, errors.InvalidParameter, errors.TargetForbidden, errors.SiteForbidden, errors.GeoRestricted,
    errors.LoginRequired, errors.DrmProtected, errors.MediaNotFound, errors.TooLarge, errors.NotInstalled,
    errors.ExtractionFailed, errors.UpstreamFailed, errors.Busy, errors.Draining, errors.ExtractionTimeout,
)  # fmt: skip
_STREAM_ERRORS = (
    *_ERRORS, errors.FormatNotFound, errors.ItemNotFound, errors.PreconditionFailed, errors.NotMedia,
    errors.RangeNotSatisfiable, errors.UnsupportedConversion, errors.UpstreamTimeout,
)  # fmt: skip
_LINK_ERRORS = (errors.LinkInvalid, errors.LinkExpired)
_TYPES = sorted({container.content_type for container in (*BY_EXTENSION.values(), UNKNOWN)})


def _field(name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}


DOWNLOAD: dict[str, Any] = {
    "name": "download", "in": "query", "description": "`1` or `0`: takes precedence over `download` in the link.",
    "schema": {"type": "boolean"},
}  # fmt: skip
RANGE_FIELDS = [
    _field("Range", "One byte range (RFC 9110 §14.2). The server ignores malformed and multiple ranges.", "bytes=0-1"),
    _field(
        "If-Range",
        "ETag or Last-Modified of the client's copy: the server ignores Range if the media has changed (RFC 9110 "
        "§13.1.5).",
        '"5f3a-16"',
    ),
]
CONDITIONAL_FIELDS = [
    _field("If-None-Match", "ETags: the response is 304 if the media has one of them (RFC 9110 §13.1.2).", '"5f3a-16"'),
    _field(
        "If-Modified-Since",
        "Date: the response is 304 if the media is not newer (RFC 9110 §13.1.3).",
        "Mon, 01 Jan 2024 00:00:00 GMT",
    ),
    _field("If-Match", "ETags: the response is 412 if the media has none of them (RFC 9110 §13.1.1).", '"5f3a-16"'),
    _field(
        "If-Unmodified-Since",
        "Date: the response is 412 if the media is newer (RFC 9110 §13.1.4).",
        "Mon, 01 Jan 2024 00:00:00 GMT",
    ),
]

RATE_FIELDS = {
    "RateLimit-Limit": "Maximum number of extractions in the time window that is nearest to its limit. A response has "
    "the RateLimit fields only if its request was counted.",
    "RateLimit-Policy": "All time windows: `60;w=60` allows 60 extractions in 60 seconds.",
    "RateLimit-Remaining": "Number of extractions that are left in the window of RateLimit-Limit.",
    "RateLimit-Reset": "Seconds until the window of RateLimit-Limit ends.",
}
_ANSWER_FIELDS: dict[str, Any] = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in {
        "Accept-Ranges": "`bytes` if ranges can be requested, otherwise `none`.",
        "Cache-Control": "`private, no-cache`; `no-store` for a live stream or a range of a merged, fragmented MP4.",
        "Content-Disposition": "The name of the file: reduced to ASCII in `filename`, exact in `filename*`.",
        "Content-Length": "Number of bytes of the body, if it is known exactly.",
        "ETag": "Validator of the media, if the media server sends one and honours ranges.",
        "Last-Modified": "Date of the last change of the media, if the media server sends one and honours ranges.",
        "Server-Timing": "Durations of the phases wait, extract, connect and first-byte, in milliseconds.",
        "X-Duration": "Duration of the whole media in seconds, if it is known and the media is not live.",
        "X-Estimated-Content-Length": "Estimated number of bytes of the body, if the exact number is unknown.",
        "X-Request-ID": "The X-Request-ID of the request, or a new id if the request has none.",
        "X-ServerPY-Method": "Method that delivers the media: `relay`, `embedded`, `subprocess` or `redirect`.",
        **RATE_FIELDS,
    }.items()
}
_REDIRECT_FIELDS: dict[str, Any] = {
    "Location": {
        "description": "URL of the media at its media server. The URL may expire.",
        "schema": {"type": "string"},
    },
    "Referrer-Policy": {"description": "Always `no-referrer`.", "schema": {"type": "string"}},
}
_RANGE_ANSWER_FIELDS = {
    "Content-Range": {
        "description": "The range of bytes in the body, and the length of the file.",
        "schema": {"type": "string"},
    }
}
_ERROR_FIELDS: dict[str, dict[str, str]] = {
    "401": {
        "WWW-Authenticate": "The ways to send an API key: `Bearer` and, unless a script sent the request, `Basic`."
    },
    "405": {"Allow": "The HTTP methods that the path supports."},
    "416": {
        "Accept-Ranges": "Always `bytes`.",
        "Content-Range": "The length of the file: `bytes */N`. Missing if the length is unknown.",
    },
    "429": {"Retry-After": "Seconds after which the client may repeat the request."},
    "503": {"Retry-After": "Seconds after which the client may repeat the request."},
}
"""The header fields of error responses, by status."""
_COUNTED = frozenset({("get", "/stream"), ("head", "/stream"), ("get", "/info"), ("post", "/links")})
"""The operations that count toward the rate limit."""
_MEDIA = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in _TYPES}

Responses = dict[int | str, dict[str, Any]]
_NOT_MODIFIED: Responses = {304: {"description": "The client's copy is still valid. The response has no body."}}
INFO_RESPONSES: Responses = examples(*_ERRORS)


def _stream_responses(*more: type[errors.ServerPYError]) -> Responses:
    return {
        200: {"description": "The whole media, with its Content-Type.", "headers": _ANSWER_FIELDS, "content": _MEDIA},
        206: {
            "description": "The requested range of the media.",
            "headers": _ANSWER_FIELDS | _RANGE_ANSWER_FIELDS,
            "content": _MEDIA,
        },
        302: {"description": "The address of the media (`method=redirect`).", "headers": _REDIRECT_FIELDS},
        **_NOT_MODIFIED,
        **examples(*_STREAM_ERRORS, *more),
    }


def _head_responses(*more: type[errors.ServerPYError]) -> Responses:
    return {
        200: {"description": "The headers of the response to `GET`.", "headers": _ANSWER_FIELDS},
        302: {"description": "The address of the media (`method=redirect`).", "headers": _REDIRECT_FIELDS},
        **_NOT_MODIFIED,
        **examples(*(kind for kind in _STREAM_ERRORS if kind is not errors.RangeNotSatisfiable), *more),
    }


STREAM_RESPONSES, LINK_RESPONSES = _stream_responses(), _stream_responses(*_LINK_ERRORS)
HEAD_RESPONSES, LINK_HEAD_RESPONSES = _head_responses(), _head_responses(*_LINK_ERRORS)
ISSUE_RESPONSES: Responses = examples(
    errors.InvalidUrl, errors.InvalidParameter, errors.KeyForbids, errors.UnsupportedConversion
)

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "An API key as the password of Basic authentication, for media players.",
    },
    "api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "An API key as cobalt's clients send it: `Authorization: Api-Key KEY`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The session cookie that `POST /login` sets.",
    },
}
_SECURITY: list[dict[str, list[str]]] = [{}]
_SECURITY += [{name: []} for name in _SECURITY_SCHEMES]
"""The alternatives that the schema lists: no credentials, or any of the schemes. The settings of a server decide which
requests need a key."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI schema of `app`. It lists the ways to send an API key, and every error of each operation. It
    omits the 422 responses that FastAPI adds, because the server answers invalid parameters with 400."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        schema.setdefault("components", {})["securitySchemes"] = _SECURITY_SCHEMES
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                needs_key = need_of(method.upper(), path) not in (Need.NOTHING, Need.SIGNATURE)
                if needs_key:
                    operation["security"] = _SECURITY
                answers = operation["responses"]
                if "application/json" in answers.get("422", {}).get("content", {}):
                    del answers["422"]
                _add_errors(answers, (*_COMMON_ERRORS, *(ACCESS_ERRORS if needs_key else ())))
                _add_fields(answers, is_counted=(method, path) in _COUNTED)
                operation["responses"] = dict(sorted(answers.items()))
        app.openapi_schema = schema
    return app.openapi_schema


class Document:
    """The OpenAPI schema of `app` as JSON. The first call of `json` builds it in a thread, because that takes 50 ms.
    Afterwards, the object keeps only the encoded bytes, which take a quarter of the memory of the dictionary."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._json: bytes | None = None
        self._building = asyncio.Lock()
        self._waiting = 0

    async def json(self, root_path: str = "") -> bytes:
        """Return the document, with `root_path`, the path at which `app` is mounted, as the URL of the server. Raises
        `Busy` if MOST_WAITING callers already wait until the document is built."""
        content = self._json or await self._built()
        if not root_path:
            return content
        return content[:-1] + b',"servers":' + json.dumps([{"url": root_path}]).encode() + b"}"

    async def _built(self) -> bytes:
        if self._waiting >= MOST_WAITING:
            raise errors.Busy("The OpenAPI document is still being built. Try again later.")
        self._waiting += 1
        try:
            async with self._building:
                if self._json is None:
                    self._json = await in_thread(self._build, name="OpenAPI document")
                return self._json
        finally:
            self._waiting -= 1

    def _build(self) -> bytes:
        content = self._app.openapi()
        self._app.openapi_schema = None
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _add_errors(answers: dict[str, Any], kinds: Iterable[type[errors.ServerPYError]]) -> None:
    """Add the errors of `kinds`, and those of `_COMMON_EXAMPLES`, to the responses of an operation."""
    found = {status: entry["content"][MEDIA_TYPE]["examples"] for status, entry in examples(*kinds).items()}
    for status in {*found, *_COMMON_EXAMPLES}:
        entry = answers.setdefault(str(status), {"description": ""})
        content = entry.setdefault("content", {}).setdefault(MEDIA_TYPE, {"schema": PROBLEM_SCHEMA, "examples": {}})
        known = content.setdefault("examples", {})
        for code, shown in {**found.get(status, {}), **_COMMON_EXAMPLES.get(int(status), {})}.items():
            if code not in known:
                known[code] = shown
                entry["description"] = ", ".join(filter(None, (entry["description"], f"`{code}`")))


def _add_fields(answers: dict[str, Any], *, is_counted: bool) -> None:
    """Add the header fields of error responses, and those of the rate limit, to the responses of an operation.
    `is_counted` states whether the operation counts toward the rate limit."""
    for status, entry in answers.items():
        is_rated = is_counted and status in ("200", "429")
        fields = {**_ERROR_FIELDS.get(status, {}), **(RATE_FIELDS if is_rated else {})}
        if fields:
            entry["headers"] = entry.get("headers", {}) | {
                name: {"description": text, "schema": {"type": "string"}} for name, text in fields.items()
            }
