"""Who may ask, at the level of ASGI: `/stream` has no FastAPI dependencies, and every route must be covered."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serverpy.access.grant import UNLIMITED, Grant

GRANT = "grant"


class Access:
    """Middleware that decides whether a request is allowed, and puts its `Grant` into the state of its scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[GRANT] = UNLIMITED
        await self._app(scope, receive, send)


def grant_of(request: Request) -> Grant:
    """Return the grant that `Access` gave the request."""
    grant: Grant = request.scope["state"][GRANT]
    return grant
