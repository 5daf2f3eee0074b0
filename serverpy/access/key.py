"""API keys as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from serverpy.access.clients import is_within, parse_address

NO_LIMIT = "none"
"""The `rate` of a key without a rate limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key: what its holder may do. The secret itself is not kept: `digest` is its SHA-256.

    `rate` is in the syntax of the `limits` library, or NO_LIMIT; `bytes_per_day` is in bytes. None means the server's
    own limit, or no limit if the server has none. An empty tuple of `sites`, `methods` or `networks` allows all of
    them. `expires` has a time zone."""

    name: str
    digest: bytes
    admin: bool = False
    expires: datetime | None = None
    rate: str | None = None
    streams: int | None = None
    bytes_per_day: int | None = None
    sites: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def is_expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now

    def allows_address(self, address: str) -> bool:
        """Return whether a client at `address` may use the key. An address that is not an IP address may only use a key
        without `networks`."""
        return not self.networks or is_within(parse_address(address), self.networks)
