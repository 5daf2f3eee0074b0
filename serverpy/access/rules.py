"""Which request needs what: the table of the routes, and the decision about a request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from serverpy.access.clients import Client, Network, is_within, network_of, parse_address
from serverpy.access.key import Key
from serverpy.errors import KeyForbids, KeyRequired, ServerPYError


class Need(Enum):
    """What a route asks of a request."""

    NOTHING = auto()
    SIGNATURE = auto()
    """The route checks the signature in its address itself."""
    KEY = auto()
    """Any key, if REQUIRE_KEY is set."""
    STATUS = auto()
    """A client in ADMIN_NETWORKS, or an admin key."""
    ADMIN = auto()
    """As STATUS, but with REQUIRE_KEY only an admin key."""
    STREAMS = auto()
    """As STATUS, but with REQUIRE_KEY any key: its holder sees and ends the key's own streams."""


_BY_SEGMENT = {
    **dict.fromkeys(("login", "logout", "ready", "docs", "openapi.json", "robots.txt"), Need.NOTHING),
    **dict.fromkeys(("s", "segment", "tunnel"), Need.SIGNATURE),
    **dict.fromkeys(("health", "metrics"), Need.STATUS),
    **dict.fromkeys(("dashboard", "events"), Need.ADMIN),
    "streams": Need.STREAMS,
}
"""The need of a path by its first segment. All other paths, unknown ones too, need a key."""

THROUGH_PROXY = (
    "This request came through a proxy, and this server was not told that it may serve others than this machine. Its "
    "operator can set REQUIRE_KEY or, to serve everybody, --open, and list the proxy in TRUSTED_PROXIES."
)
NEEDS_KEY = "This request needs a key: send it as `Authorization: Bearer KEY`, or as the password of Basic."
NEEDS_ADMIN = "This request needs an admin key, or a client in ADMIN_NETWORKS."


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """REQUIRE_KEY, OPEN and ADMIN_NETWORKS."""

    require_key: bool = False
    open: bool = False
    admin_networks: Sequence[Network] = ()

    def is_admin(self, caller: Caller) -> bool:
        """Return whether the caller may see and end the streams of all others."""
        if caller.key is not None and caller.key.admin:
            return True
        return not self.require_key and self.is_admin_client(caller.client)

    def is_admin_client(self, client: Client) -> bool:
        """Return whether the client is in ADMIN_NETWORKS. A client on loopback has to be local, because every client of
        a proxy on this machine is on loopback."""
        address = parse_address(client.address)
        if not client.is_known or address is None or (address.is_loopback and not client.is_local):
            return False
        return is_within(address, self.admin_networks)


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request, and its key if it has shown a valid one."""

    client: Client
    key: Key | None = None

    @property
    def account(self) -> str:
        """Who pays for the request: the name of the key, or else the client's address (IPv6: its /64)."""
        return self.key.name if self.key is not None else network_of(self.client.address)


def need_of(method: str, path: str) -> Need:
    """Return the need of a request for `path`, which is relative to the application."""
    if path == "/":
        return Need.NOTHING if method in ("GET", "HEAD") else Need.KEY
    return _BY_SEGMENT.get(path[1:].partition("/")[0], Need.KEY)


def may_come_by_proxy(client: Client, policy: Policy) -> bool:
    """Return whether the policy allows the way of the request. Behind a proxy, the client may be anybody."""
    return not client.is_proxied or policy.require_key or policy.open


def refusal(need: Need, caller: Caller, policy: Policy) -> ServerPYError | None:
    """Return the error if the caller may not do what has this need, otherwise None."""
    if need is Need.KEY:
        return KeyRequired(NEEDS_KEY) if policy.require_key and caller.key is None else None
    if (
        need is Need.NOTHING
        or need is Need.SIGNATURE
        or policy.is_admin(caller)
        or (need is Need.STATUS and policy.is_admin_client(caller.client))
    ):
        return None
    if need is Need.STREAMS and policy.require_key and caller.key is not None:
        return None
    return KeyRequired(NEEDS_ADMIN) if caller.key is None else KeyForbids("This request needs an admin key.")
