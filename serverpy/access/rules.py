"""The rules of access: which right each route of the HTTP API requires, and whether the caller of a request has this
right. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from serverpy.access.clients import Client, Network, is_within, network_of, parse_address
from serverpy.access.key import Key
from serverpy.errors import KeyForbids, KeyRequired, ServerPYError


class Need(Enum):
    """The right that a route requires of the caller."""

    NOTHING = auto()
    SIGNATURE = auto()
    """No API key: the route itself checks the signature in the URL."""
    KEY = auto()
    """Any API key if REQUIRE_KEY is set, otherwise none."""
    STATUS = auto()
    """A client address in ADMIN_NETWORKS, or an admin key."""
    ADMIN = auto()
    """An admin key or, if REQUIRE_KEY is not set, a client address in ADMIN_NETWORKS."""
    STREAMS = auto()
    """If REQUIRE_KEY is set, any API key: with a key that is not an admin key, a client may see and end only the
    streams of that key. If REQUIRE_KEY is not set, an admin key, or a client address in ADMIN_NETWORKS."""


_BY_SEGMENT = {
    **dict.fromkeys(("login", "logout", "ready", "docs", "openapi.json", "robots.txt"), Need.NOTHING),
    **dict.fromkeys(("s", "segment", "tunnel"), Need.SIGNATURE),
    **dict.fromkeys(("health", "metrics"), Need.STATUS),
    **dict.fromkeys(("dashboard", "events"), Need.ADMIN),
    "streams": Need.STREAMS,
}
"""The right that a path requires, by the first segment of the path. All other paths require `Need.KEY`, even if they do
not exist."""

THROUGH_PROXY = (
    "This server serves only clients on its own machine, so it refuses requests that come through a proxy. To allow "
    "them, its operator can set REQUIRE_KEY or, to serve everybody, --open, and list the proxy in TRUSTED_PROXIES."
)
NEEDS_KEY = "This request needs an API key: send `Authorization: Bearer KEY`, or the key as the Basic password."
NEEDS_ADMIN = "This request needs an admin key, or a client address in ADMIN_NETWORKS."


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings on which access depends: REQUIRE_KEY, OPEN and ADMIN_NETWORKS."""

    require_key: bool = False
    open: bool = False
    admin_networks: Sequence[Network] = ()

    def is_admin(self, caller: Caller) -> bool:
        """Return whether the caller may see and end the streams of all accounts."""
        if caller.key is not None and caller.key.admin:
            return True
        return not self.require_key and self.is_admin_client(caller.client)

    def is_admin_client(self, client: Client) -> bool:
        """Return whether the address of the client is known and in ADMIN_NETWORKS. A client with a loopback address
        must also be local, because all requests through a proxy on this machine come from a loopback address."""
        address = parse_address(client.address)
        if not client.is_known or address is None or (address.is_loopback and not client.is_local):
            return False
        return is_within(address, self.admin_networks)


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request, and the API key of the request. `key` is None if the request has no valid key."""

    client: Client
    key: Key | None = None

    @property
    def account(self) -> str:
        """Name under which the request is counted: the name of the key or, without a key, the client's address (IPv6:
        its /64)."""
        return self.key.name if self.key is not None else network_of(self.client.address)


def need_of(method: str, path: str) -> Need:
    """Return the right that a request requires. `path` is relative to the path at which the application is mounted."""
    if path == "/":
        return Need.NOTHING if method in ("GET", "HEAD") else Need.KEY
    return _BY_SEGMENT.get(path[1:].partition("/")[0], Need.KEY)


def may_come_by_proxy(client: Client, policy: Policy) -> bool:
    """Return whether the client uses no proxy, or the policy allows proxies: the client behind a proxy may be anybody,
    so REQUIRE_KEY or OPEN must be set."""
    return not client.is_proxied or policy.require_key or policy.open


def refusal(need: Need, caller: Caller, policy: Policy) -> ServerPYError | None:
    """Return the error for a caller that does not have the required right. Returns None if the caller has it."""
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
    if need is Need.STREAMS and policy.require_key:
        return KeyRequired(NEEDS_KEY)
    return KeyRequired(NEEDS_ADMIN) if caller.key is None else KeyForbids("This request needs an admin key.")
