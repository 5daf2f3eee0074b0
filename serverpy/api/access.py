"""The ASGI middleware that asks the gate (`access/gate.py`) about each request. A FastAPI dependency could not do this
for all routes, because the route `/stream` resolves no dependencies."""

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
"""Names of the entries in `scope["state"]` where `Access` stores the grant and the caller of a request."""


class Access:
    """Middleware that refuses the requests that the gate does not admit. It stores the `Caller` and the `Grant` of an
    admitted request in `scope["state"]`. If a trusted proxy sent the request, the middleware also replaces the address
    and the scheme in the scope by those of the client, as the proxy names them."""

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
    """Return the caller that the middleware `Access` has stored in the scope of `request`."""
    caller: Caller = request.scope["state"][CALLER]
    return caller


def grant_of(request: Request) -> Grant:
    """Return the grant that the middleware `Access` has stored in the scope of `request`."""
    grant: Grant = request.scope["state"][GRANT]
    return grant


def gate_of(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def route_path(scope: Scope) -> str:
    """Return the request path that the routes match: without `root_path`, the prefix under which the application is
    mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def refused(error: ServerPYError, scope: Scope) -> Response:
    """Make the response to a refused request. A 401 also offers Basic authentication, for media players and for
    browsers without JavaScript, unless a script sent the request."""
    answer = problem(error)
    if answer.status_code == 401 and not _is_script(scope):
        answer.headers.append("WWW-Authenticate", 'Basic realm="ServerPY", charset="UTF-8"')
    return answer


def _is_script(scope: Scope) -> bool:
    """Return whether a script of a web page sent the request. If the response offered Basic authentication to a script,
    the browser would show its own password prompt over the page. Browsers send no Sec-Fetch-Dest over plain HTTP, so
    the script of the server's page sends X-Requested-With."""
    return any(
        name == b"x-requested-with" or (name == b"sec-fetch-dest" and value == b"empty")
        for name, value in scope["headers"]
    )
