"""Middleware around every response. `Frame` adds the headers that all responses have; `Checks` refuses requests that
are too long or name an unknown host, and responds to an unexpected exception. CORS stands between the two, so that a
page of an allowed origin can read every response.

Both are plain ASGI wrappers: they change the head of a response and pass its body through unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverpy.api.hosts import host_of, is_served
from serverpy.api.problems import internal_error, problem
from serverpy.api.protocol import TOO_LONG, new_request_id
from serverpy.errors import HeadersTooLarge, HostUnknown, ServerPYError, TooLarge, UrlTooLong

REQUEST_ID = "request_id"
EXPOSED_HEADERS = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Retry-After", "Server-Timing",
    "X-Estimated-Content-Length", "X-Request-ID", "X-ServerPY-Method",
]  # fmt: skip
"""Headers that scripts of an allowed origin may read (CORS)."""
_PRIVATE = ((b"referrer-policy", b"no-referrer"), (b"x-robots-tag", b"noindex, nofollow"))
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STARTED = "serverpy.started"
"""Key that is in the scope once the response has begun."""


class Frame:
    """The outermost middleware: a request id, `nosniff`, Cross-Origin-Resource-Policy, and `no-store` for responses
    without a Cache-Control of their own. No search engine may list a response, and links in it do not tell other sites
    its address. `embeddable` states whether pages of other sites may embed media. The request
    of a media element does not name the origin of its page, so the server allows all pages or none. Chromium treats two
    ports of an IP address as one site in Sec-Fetch-Site, but not in Cross-Origin-Resource-Policy, so a request from the
    same site gets `cross-origin`."""

    def __init__(self, app: ASGIApp, *, embeddable: bool) -> None:
        self._app = app
        self._embeddable = embeddable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})[REQUEST_ID] = request_id.decode()
        is_open = self._embeddable or _field(scope, b"sec-fetch-site") == b"same-site"
        policy = b"cross-origin" if is_open else b"same-site"

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[_STARTED] = True
                headers = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cross-origin-resource-policy", policy),
                    *_PRIVATE,
                ]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, framed)


class Checks:
    """The innermost middleware. `hosts` are the names that the server answers for besides IP literals and `localhost`;
    None turns the check off."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = _length_error(scope) or self._host_error(scope)
        if error is not None:
            await problem(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception:
            if _STARTED not in scope:
                await internal_error()(scope, receive, send)
            raise  # the ASGI server logs the exception, and cuts a response that has begun

    def _host_error(self, scope: Scope) -> ServerPYError | None:
        if self._hosts is None:
            return None
        field = _field(scope, b"host")
        if field is None:  # only an HTTP/1.0 client may omit Host, and browsers use newer versions
            return None
        host = host_of(field)
        if host is not None and is_served(host, self._hosts):
            return None
        return HostUnknown(
            "This server does not answer for the host name of the request. Its operator can add it to ALLOWED_HOSTS."
        )


def _field(scope: Scope, name: bytes) -> bytes | None:
    return next((value for field, value in scope["headers"] if field == name), None)


def _request_id(scope: Scope) -> bytes:
    """Return the client's request id if it is safe to log, otherwise a new one."""
    given = _field(scope, b"x-request-id") or b""
    return given if _SANE_ID.fullmatch(given) else new_request_id().encode()


def _length_error(scope: Scope) -> ServerPYError | None:
    match scope.get("extensions", {}).get(TOO_LONG):
        case None:
            return None
        case "target":
            return UrlTooLong("The URL of the request is too long.")
        case "headers":
            return HeadersTooLarge("The headers of the request are too long.")
        case _:
            return TooLarge("The body of the request is too large.")
