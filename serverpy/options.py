"""The settings in the form in which the parts of the server receive them: frozen groups, one for each concern.

`settings` builds them from the operator's settings. They are plain dataclasses, so that a part can use them without
pydantic and the worker process can receive them as JSON. Their defaults are those of the settings, with the smallest
profile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serverpy.net.ports import BAD_PORTS

Method = Literal["auto", "relay", "embedded", "subprocess"]
"""Values of METHOD."""
StreamMethod = Literal[Method, "redirect"]
"""Values of the parameter `method`."""
Sockets = tuple[tuple[str, int], ...]
"""Numeric address and port of each socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Timeouts in seconds. `wait`: for a free slot. `extract`: for one extraction. `stall`: without a byte from a media
    server, or without a read by a client. `connect`: for a connection."""

    wait: float = 15.0
    extract: float = 60.0
    stall: float = 60.0
    connect: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Addresses outside the public internet that the server may reach (`net/guard.py`), ports that it must not reach,
    and its own listening sockets, which it must never reach."""

    allow_networks: tuple[str, ...] = ()
    deny_ports: frozenset[int] = BAD_PORTS
    own: Sockets = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The options of outgoing connections. `proxy` may contain a password; `ca_file` is a PEM file of additional
    certificate authorities."""

    proxy: str | None = field(default=None, repr=False)
    source_address: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of requests: cookies from a file in Netscape format, and a browser to impersonate, as yt-dlp names
    it."""

    cookies_file: str | None = None
    impersonate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on concurrency and memory. `extract_workers` and `max_workers` are threads of the worker process;
    `memory_budget` is in bytes; `queue_chunks` × `chunk_bytes` bounds the bytes of one stream's pipe."""

    max_streams: int = 200
    memory_budget: int = 64 * 1024 * 1024
    extract_workers: int = 2
    max_workers: int = 5
    max_children: int = 2
    queue_chunks: int = 10
    chunk_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Limits of one client, by its key or its network. `rate` limits extractions, in the syntax of the `limits`
    library; `local_rate` is that of clients on this machine without a key; None is no limit. `streams` is the number of
    streams at once."""

    rate: str | None = "60/minute"
    local_rate: str | None = None
    streams: int = 50
