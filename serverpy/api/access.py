"""Who may ask, at the level of ASGI: `/stream` has no FastAPI dependencies, and every route must be covered."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serverpy.access.grant import Grant
from serverpy.access.limits import Limits

GRANT = "grant"


class Access:
    """Middleware that decides whether a request is allowed, and puts its `Grant` into the state of its scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            limits: Limits = scope["app"].state.server.limits
            client = scope.get("client")
            address = str(client[0]) if client else ""
            is_local = _is_loopback(address)
            scope.setdefault("state", {})[GRANT] = limits.grant_for(
                _network_of(address), is_local=is_local, is_admin=is_local
            )
        await self._app(scope, receive, send)


def grant_of(request: Request) -> Grant:
    """Return the grant that `Access` gave the request."""
    grant: Grant = request.scope["state"][GRANT]
    return grant


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return True  # a socket of this machine


def _network_of(address: str) -> str:
    """Return the network whose clients count as one: of an IPv6 address its /64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or ip_network((int(found) >> 64 << 64, 64)))
