"""Middleware around every answer: it adds a request id and `nosniff`, and checks the head of the request.

A plain ASGI wrapper: it changes the head of an answer and passes bodies through untouched.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverpy.api.problems import problem
from serverpy.api.protocol import TOO_LONG, new_request_id
from serverpy.errors import InvalidParameter, InvalidUrl, ServerPYError

REQUEST_ID = "request_id"
EXPOSED_HEADERS = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Retry-After", "Server-Timing",
    "X-Estimated-Content-Length", "X-Request-ID", "X-ServerPY-Method",
]  # fmt: skip
"""Headers that scripts of an allowed origin may read (CORS)."""
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})[REQUEST_ID] = request_id.decode()

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                frame = [(b"x-request-id", request_id), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", ()), *frame]}
            await send(message)

        try:
            scope["query_string"] = _checked_query(scope)
        except ServerPYError as error:
            await problem(error)(scope, receive, framed)
        else:
            await self._app(scope, receive, framed)


def _request_id(scope: Scope) -> bytes:
    """Return the client's request id if it is safe to log, otherwise a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given if _SANE_ID.fullmatch(given) else new_request_id().encode()


def _checked_query(scope: Scope) -> bytes:
    """Return the query string. Raises `InvalidUrl` or `InvalidParameter` if the head was too long, or if a value is not
    UTF-8: with replacement characters it would name another page."""
    too_long = scope.get("extensions", {}).get(TOO_LONG)
    if too_long == "headers":
        raise InvalidParameter("The headers of the request are too long.")
    if too_long is not None:
        raise InvalidUrl("The URL is too long.")
    query: bytes = scope["query_string"]
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            if name == b"url":
                raise InvalidUrl("The URL is not UTF-8.") from None
            raise InvalidParameter("A parameter is not UTF-8.") from None
    return query
