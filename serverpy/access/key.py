"""The API key: its name, its digest and its rights, as an immutable value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from serverpy.access.clients import is_within, parse_address

NO_LIMIT = "none"
"""The `rate` of a key without a rate limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, and the rights of its holder. The server does not store the secret that the holder sends: `digest` is
    its SHA-256.

    `rate` limits extractions, in the syntax of the `limits` library, or is NO_LIMIT. `streams` is the maximum number of
    open streams. If `rate`, `streams` or `bytes_per_day` is None, the limit of the server's settings applies, or no
    limit if there is no such setting. An empty tuple of `sites`, `methods` or `networks` allows all. `expires` is
    timezone-aware."""

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
        """Return whether a client at `address` may use the key. If `address` is not an IP address, returns True only
        for a key without `networks`."""
        return not self.networks or is_within(parse_address(address), self.networks)
