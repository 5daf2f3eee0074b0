"""The middleware through which every request and response passes. `Frame` adds the headers that all responses have;
`Checks` refuses requests that are too long or name an unknown host, and responds to an unexpected exception. The CORS
middleware stands between `Frame` and `Checks`, so that a page of an allowed origin can also read the responses of
`Checks`.

`Frame` and `Checks` are plain ASGI wrappers: they change the head of a response and pass its body through unchanged.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.api.access import GRANT
from serverpy.api.hosts import host_of, is_served
from serverpy.api.problems import internal_error, new_request_id, problem
from serverpy.api.protocol import CUT
from serverpy.api.request_reader import CROWDED, TOO_LONG
from serverpy.errors import (
    Draining,
    HeadersTooLarge,
    HostUnknown,
    RateLimited,
    ServerPYError,
    TooLarge,
    UrlTooLong,
    shortage,
)

logger = logging.getLogger(__name__)

REQUEST_ID = "request_id"
EXPOSED_HEADERS = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "RateLimit-Limit",
    "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "Server-Timing", "X-Duration",
    "X-Estimated-Content-Length", "X-Request-ID", "X-ServerPY-Method",
]  # fmt: skip
"""Headers that scripts of an allowed origin may read (CORS)."""
_OPEN, _CLOSED = (
    (
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", policy),
        (b"referrer-policy", b"no-referrer"),
        (b"x-robots-tag", b"noindex, nofollow"),
    )
    for policy in (b"cross-origin", b"same-site")
)
"""The headers that the server adds to every response: `_OPEN` if pages of other sites may embed the response, otherwise
`_CLOSED`."""
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STARTED = "serverpy.started"
"""Key that the middleware adds to the ASGI scope when the response begins."""


class Frame:
    """The outermost middleware. It adds a request id, `nosniff`, Cross-Origin-Resource-Policy and the headers of the
    request's grant to every response, and `no-store` to a response without Cache-Control. Two more headers keep search
    engines from listing a response, and browsers from sending its URL to other sites as Referer.

    `embeddable` states whether pages of other sites may embed media. The request of a media element does not name the
    origin of its page, so the server can only allow pages of all other sites, or of none. Chromium treats two ports of
    an IP address as one site in Sec-Fetch-Site, but not in Cross-Origin-Resource-Policy, so the response to a request
    from the same site gets `cross-origin`."""

    def __init__(self, app: ASGIApp, *, embeddable: bool) -> None:
        self._app = app
        self._embeddable = embeddable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields = dict(scope["headers"])
        request_id = _request_id(fields.get(b"x-request-id", b""))
        state = scope.setdefault("state", {})
        state[REQUEST_ID] = request_id.decode()
        is_open = self._embeddable or fields.get(b"sec-fetch-site") == b"same-site"
        own = _OPEN if is_open else _CLOSED

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[_STARTED] = True
                grant: Grant = state.get(GRANT, UNLIMITED)
                headers = [*message.get("headers", ()), (b"x-request-id", request_id), *own, *grant.headers()]
                if b"cache-control" not in dict(headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, framed)


class RootPath:
    """The middleware for ROOT_PATH, the path below which a reverse proxy offers the server. It sets `root_path` in the
    ASGI scope, from which routes and links take the path. The path of a request may begin with ROOT_PATH or not. The
    middleware has no effect in an application that is mounted below another path."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


class Checks:
    """The innermost middleware. It refuses a request that is too long, that names an unknown host, or whose client has
    too many requests open. `hosts` are the host names that the server answers for besides IP literals and `localhost`;
    None turns the check of the host off."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = _limit_error(scope) or self._host_error(scope)
        if error is not None:
            scope["app"].state.server.refusals.count(error)
            await problem(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if CUT not in scope.get("extensions", {}):
                raise
            await _end(scope, receive, send)
        except Exception as failure:
            busy = shortage(failure)
            if _STARTED not in scope:
                await (internal_error() if busy is None else problem(busy))(scope, receive, send)
                if busy is not None:
                    logger.warning("a request was refused because the system has run out of a resource: %s", failure)
                    return
            raise  # the ASGI server logs the exception, and cuts the connection if the response has begun

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
            "This server does not answer for the host name of the request. The operator of this server can add the "
            "name to ALLOWED_HOSTS, or set REQUIRE_KEY or OPEN."
        )


def _field(scope: Scope, name: bytes) -> bytes | None:
    return next((value for field, value in scope["headers"] if field == name), None)


def _request_id(given: bytes) -> bytes:
    """Return `given`, the client's request id, if it is safe to log, otherwise a new one."""
    return given if _SANE_ID.fullmatch(given) else new_request_id().encode()


async def _end(scope: Scope, receive: Receive, send: Send) -> None:
    """End a request that was cancelled, because its client has left or the server stops. If the middleware raised
    CancelledError instead, uvicorn would log a traceback."""
    if _STARTED in scope:
        scope["extensions"][CUT]()
    else:
        await problem(Draining("This server is stopping. Try again later."))(scope, receive, send)


def _limit_error(scope: Scope) -> ServerPYError | None:
    extensions = scope.get("extensions", {})
    if CROWDED in extensions:
        return RateLimited("This client address has too many requests open. Try again when one of them has ended.")
    match extensions.get(TOO_LONG):
        case None:
            return None
        case "target":
            return UrlTooLong("The URL of the request is too long: shorten it.")
        case "headers":
            return HeadersTooLarge("The request headers are too long or too many: send fewer or shorter ones.")
        case _:
            return TooLarge("The request body is too large: send a smaller one.")
