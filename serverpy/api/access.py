"""The gate (`access/gate.py`) at the level of ASGI: `/stream` has no FastAPI dependencies, and every route must be
covered."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serverpy.access.clients import Client
from serverpy.access.gate import Gate
from serverpy.access.grant import Grant
from serverpy.access.rules import Caller
from serverpy.api.problems import problem
from serverpy.errors import ServerPYError

GRANT = "grant"
CALLER = "caller"
"""Names in the state of a request's scope."""


class Access:
    """Middleware that decides whether a request is allowed, and puts its `Caller` and its `Grant` into the state of its
    scope. Behind a trusted proxy, it puts the address and scheme of the client into the scope, too."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = self._client_of(scope)
        try:
            caller = await self._gate.admit(scope["method"], route_path(scope), client, scope["headers"])
        except ServerPYError as error:
            scope["app"].state.server.refusals.count(error)
            await refused(error, scope)(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state[CALLER] = caller
        state[GRANT] = self._gate.grant_for(caller, scope["app"].state.server.limits)
        await self._app(scope, receive, send)

    def _client_of(self, scope: Scope) -> Client:
        peer = scope.get("client")
        client = self._gate.client_of(peer[0] if peer else "", scope["headers"])
        if client.is_trusted:
            scope["client"] = (client.address, 0)
            scope["scheme"] = client.scheme or scope.get("scheme", "http")
        return client


def caller_of(request: Request) -> Caller:
    """Return the caller that `Access` found."""
    caller: Caller = request.scope["state"][CALLER]
    return caller


def grant_of(request: Request) -> Grant:
    """Return the grant that `Access` gave the request."""
    grant: Grant = request.scope["state"][GRANT]
    return grant


def gate_of(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def route_path(scope: Scope) -> str:
    """Return the path as the routes see it: without the prefix under which the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def refused(error: ServerPYError, scope: Scope) -> Response:
    """Make the response to a refused request. A 401 also offers Basic, for players and for pages without JavaScript."""
    answer = problem(error)
    if answer.status_code == 401 and not _is_script(scope):
        answer.headers.append("WWW-Authenticate", 'Basic realm="ServerPY", charset="UTF-8"')
    return answer


def _is_script(scope: Scope) -> bool:
    """Return whether a script of a page made the request: for Basic, the browser would show a prompt over the page.
    Over plain HTTP, browsers send no Sec-Fetch-Dest, so the script itself sends X-Requested-With."""
    return any(
        name == b"x-requested-with" or (name == b"sec-fetch-dest" and value == b"empty")
        for name, value in scope["headers"]
    )
