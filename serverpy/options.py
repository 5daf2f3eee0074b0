"""The groups of settings that the parts of the server receive: immutable values, one group for each concern.

The package `settings` makes the groups from the operator's settings. The groups are plain dataclasses, so that a part
can use them without pydantic, and the worker process can receive them as JSON. Their defaults are the defaults of the
settings with the profile `small`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serverpy.net.ports import BAD_PORTS

Method = Literal["auto", "relay", "embedded", "subprocess"]
"""Values of the setting METHOD."""
StreamMethod = Literal[Method, "redirect"]
"""Values of the request parameter `method`."""
Sockets = tuple[tuple[str, int], ...]
"""IP addresses and ports of sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Timeouts in seconds. `wait`: for a request that waits until another stream ends or memory is free. `extract`: for
    an extraction. `stall`: for a media server that sends no byte, or a client that reads no byte. `connect`: for
    connecting to a media server or site."""

    wait: float = 15.0
    extract: float = 60.0
    stall: float = 60.0
    connect: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The rules for the addresses that the server may connect to (`net/guard.py`): the allowed networks outside the
    public internet, the denied ports, and the server's own listening sockets, which are always denied."""

    allow_networks: tuple[str, ...] = ()
    deny_ports: frozenset[int] = BAD_PORTS
    own: Sockets = ()


Codec = Literal["h264", "vp9", "av1", "hevc", "any"]
ProxyDns = Literal["local", "remote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The options of the server's outgoing connections. `proxy` may contain a password. `proxy_dns` states where host
    names are resolved if there is a proxy: on this machine ("local"), or by the proxy ("remote"). `ca_file` is a PEM
    file of additional certificate authorities."""

    proxy: str | None = field(default=None, repr=False)
    proxy_dns: ProxyDns = "local"
    source_address: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of requests to sites and media servers: cookies from a file in Netscape format, and the browser that
    the server impersonates, under yt-dlp's name for it."""

    cookies_file: str | None = None
    impersonate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on concurrency and memory. `max_extractions` limits the extractions under way, `extract_workers` the
    extractions that parse a page at the same time, and `max_workers` the download threads. `memory_budget` is in bytes.
    `queue_chunks` × `chunk_bytes` is the maximum number of bytes in the pipe of one stream."""

    max_streams: int = 200
    memory_budget: int = 64 * 1024 * 1024
    extract_workers: int = 2
    max_extractions: int = 16
    max_workers: int = 5
    max_children: int = 2
    queue_chunks: int = 10
    chunk_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Limits of one client, which the server identifies by its key or its network. `rate` limits extractions, in the
    syntax of the `limits` library; `local_rate` replaces it for clients on this machine without a key. None means no
    limit. `streams` is the maximum number of open streams, and `connections` the maximum number of connections.
    `min_rate` is the download rate, in bytes per second, below which a client counts as slow."""

    rate: str | None = "60/minute"
    local_rate: str | None = None
    streams: int = 50
    connections: int = 100
    min_rate: int = 512
