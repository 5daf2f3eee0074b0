"""Who may ask, at the level of ASGI: `/stream` has no FastAPI dependencies, and every route must be covered."""

from __future__ import annotations

import functools
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
            network, is_local = _network_of(address)
            scope.setdefault("state", {})[GRANT] = limits.grant_for(network, is_local=is_local, is_admin=is_local)
        await self._app(scope, receive, send)


def grant_of(request: Request) -> Grant:
    """Return the grant that `Access` gave the request."""
    grant: Grant = request.scope["state"][GRANT]
    return grant


@functools.lru_cache(maxsize=1024)
def _network_of(address: str) -> tuple[str, bool]:
    """Return the network whose clients count as one, which is the /64 of an IPv6 address, and whether it is this
    machine. A client without an address has connected by a socket of this machine."""
    try:
        found = ip_address(address)
    except ValueError:
        return address, True
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    network = ip_network((int(found) >> 64 << 64, 64)) if isinstance(found, IPv6Address) else found
    return str(network), found.is_loopback
