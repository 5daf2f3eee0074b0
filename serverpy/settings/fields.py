"""Every setting of ServerPY, as one typed, frozen value. The options of `serve` and docs/settings.md are made from it.
A field is the only source of a setting's name, type, default and description. The components of the server receive
groups of settings (`serverpy/options.py`). There is no global value: `load_settings` returns the settings, and their
owner passes them on.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from serverpy.extraction.sites import Sites
from serverpy.memory import profile as profiles
from serverpy.net.ports import BAD_PORTS
from serverpy.options import Identity, Limits, Network, Sockets, Targets, Timeouts
from serverpy.settings.sources import CONFIG_VARIABLE, PREFIX, SourcedSettings, environment_name
from serverpy.settings.types import (
    Count,
    HostNames,
    LogFormat,
    LogLevel,
    MethodName,
    Networks,
    OptionalAddress,
    OptionalFile,
    OptionalPath,
    OptionalProxy,
    OptionalRate,
    OptionalSeconds,
    OptionalSize,
    OptionalUrl,
    OptionalWord,
    Origins,
    Port,
    Ports,
    PositiveSeconds,
    ProfileName,
    Seconds,
    SecondsOrNever,
    Secret,
    SiteNames,
    Size,
    Word,
    Words,
    host_name,
    setting,
)

logger = logging.getLogger(__name__)


def _by_profile(attribute: str) -> Callable[[dict[str, Any]], int]:
    """Return a factory of defaults from the profile. The profile is already validated, because pydantic validates
    fields in order."""
    return lambda data: int(getattr(profiles.resolve(data["profile"]), attribute))


class Settings(SourcedSettings):
    """All settings, validated. Settings that depend on the profile already have their numbers. Durations are in
    seconds, sizes in bytes."""

    host: Word = setting("Address to listen on.", default="127.0.0.1")
    port: Port = setting("Port to listen on; 0 picks a free one.", default=8000)
    workers: Count = setting("Number of serving processes.", default=1, unit="processes")

    profile: ProfileName = setting(
        "Size of the server: the defaults of MAX_WORKERS, QUEUE_CHUNKS, MAX_STREAMS and MEMORY_BUDGET. `auto` chooses "
        "by the memory limit of the cgroup or machine, and by its cores.",
        default="auto",
    )
    extract_workers: Count = setting(
        "Extractions at once. Extractions hold the interpreter lock: more of them only add lag.",
        default=2,
        unit="threads",
    )
    worker_idle: SecondsOrNever = setting(
        "How long the process that runs yt-dlp (about 55 MB) is kept while idle; starting another takes a second or "
        "two. 0: for ever.",
        default=300.0,
        unit="seconds",
    )
    max_workers: Count = setting(
        "Threads of the embedded method, one for each running stream; if none is free, a request waits.",
        default_factory=_by_profile("max_workers"),
        unit="threads",
        shown="by profile",
    )
    max_children: Count = setting(
        "Child processes of the subprocess method at once; each takes about 55 MB, which MEMORY_BUDGET does not count.",
        default=2,
        unit="processes",
    )
    queue_chunks: Count = setting(
        "Capacity of the pipe from yt-dlp to an embedded or subprocess stream: at most QUEUE_CHUNKS × CHUNK_BYTES.",
        default_factory=_by_profile("queue_chunks"),
        unit="chunks",
        shown="by profile",
    )
    chunk_bytes: Annotated[Size, Field(ge=1024, le=16 * 1024 * 1024)] = setting(
        "Largest chunk that an embedded or subprocess stream reads from its pipe; such a stream holds two. The relay "
        "method has its own read sizes.",
        default=65536,
        unit="bytes",
    )
    max_streams: Count = setting(
        "Streams at once. Further requests wait up to WAIT_SECONDS, then get 503 with `Retry-After`.",
        default_factory=_by_profile("max_streams"),
        unit="streams",
        shown="by profile",
    )
    memory_budget: Annotated[Size, Field(ge=1024 * 1024)] = setting(
        "Bytes that all streams of one process may hold together, reserved before the first byte of each.",
        default_factory=_by_profile("memory_budget"),
        unit="bytes",
        shown="by profile",
    )

    wait_seconds: Seconds = setting(
        "How long a request waits for a free place before it gets 503.",
        default=15.0,
        unit="seconds",
    )
    extract_timeout: PositiveSeconds = setting("Longest time for an extraction.", default=60.0, unit="seconds")
    stall_timeout: PositiveSeconds = setting(
        "Longest time without a byte from a media server, or without a read by a client.", default=60.0, unit="seconds"
    )
    connect_timeout: PositiveSeconds = setting("Longest time for connecting.", default=10.0, unit="seconds")
    drain_seconds: Seconds = setting(
        "How long running streams may continue after the server was told to stop.", default=30.0, unit="seconds"
    )

    method: MethodName = setting("Streaming method if the request names none.", default="auto")
    cache_ttl: Seconds = setting("How long an extraction may be reused; 0: not at all.", default=300.0, unit="seconds")
    cache_size: Annotated[int, Field(ge=0)] = setting(
        "Largest number of cached extractions.", default=1000, unit="entries"
    )
    state_url: Word = setting(
        "Where shared state lives: `memory://`, or `redis://…` to share it between processes and machines.",
        default="memory://",
    )
    gc_after_stream: bool = setting("Collect garbage after each stream.", default=False)

    allow_networks: Words = setting(
        "Networks outside the public internet that may be reached, each with an optional port: `127.0.0.1:8001`.",
        default=(),
        unit="list",
    )
    deny_ports: Ports = setting(
        "Ports that the server never connects to, except in ALLOW_NETWORKS.",
        default=BAD_PORTS,
        unit="list",
        shown="the bad ports of WHATWG Fetch",
    )
    allow_sites: SiteNames = setting("Extractors that may run.", default=(), unit="list", shown="all")
    deny_sites: Words = setting("Extractors that may not run.", default=(), unit="list")
    generic_extractor: bool = setting("Whether pages that no extractor knows are searched for media.", default=True)

    api_keys_file: OptionalPath = setting(
        "File with the API keys (docs/access.md); changes take effect without a restart.", default=None
    )
    require_key: bool = setting("Whether every request needs a key or a signed link.", default=False)
    admin_networks: Networks = setting(
        "Clients that may read `/health`, `/metrics` and the like without an admin key; with REQUIRE_KEY only these "
        "two.",
        default=("127.0.0.0/8", "::1"),
        unit="list",
        shown="loopback",
    )
    link_secret: Secret = setting(
        "Secret that signs links. Set it in the environment or the file: other users of the machine can see options.",
        default_factory=lambda: SecretStr(secrets.token_urlsafe(32)),
        shown="random at each start",
    )
    link_ttl: PositiveSeconds = setting("Default lifetime of a signed link.", default=21600.0, unit="seconds")
    rate_limit: OptionalRate = setting(
        "Requests that each key or address may make, in the syntax of the `limits` library.", default="60/minute"
    )
    trusted_proxies: Networks = setting(
        "Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted.", default=(), unit="list"
    )
    cors_origins: Origins = setting(
        "Origins whose pages may call the server; `*` allows all, without credentials.", default=(), unit="list"
    )

    allowed_hosts: HostNames = setting(
        "Names that this server answers for, besides IP addresses, `localhost`, HOST and the host of PUBLIC_URL; a "
        "request for another Host gets 421 (protection from DNS rebinding). Needed where clients use a name: DNS, "
        "Docker, a reverse proxy that passes Host on.",
        default=(),
        unit="list",
    )
    public_url: OptionalUrl = setting(
        "Address at which clients reach this server, if it differs from HOST and PORT: `https://media.example`.",
        default=None,
    )
    open: bool = setting(
        "Serve everybody: listen on other addresses than loopback and serve requests from proxies without REQUIRE_KEY. "
        "Also answer for every Host, which turns the check of ALLOWED_HOSTS off.",
        default=False,
    )

    proxy: OptionalProxy = setting(
        "Proxy for extractions and media requests: http, socks4, socks4a, socks5 or socks5h, with its port. "
        "It receives IP addresses, never host names.",
        default=None,
    )
    cookies_file: OptionalFile = setting("Cookies in Netscape format, for extractions and media.", default=None)
    impersonate: OptionalWord = setting(
        "Browser to impersonate, as yt-dlp names it: `chrome`, `chrome-120`.", default=None
    )
    source_address: OptionalAddress = setting("Local address of outgoing connections.", default=None)
    ca_file: OptionalFile = setting("Additional CA certificates to trust, as PEM.", default=None)

    max_duration: OptionalSeconds = setting("Longest media that is streamed.", default=None, unit="seconds")
    max_bytes: OptionalSize = setting("Largest media that is streamed.", default=None, unit="bytes")

    log_level: LogLevel = setting("Lowest level that is logged.", default="info")
    log_format: LogFormat = setting("Format of log lines: text, or one JSON object per line.", default="text")

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        """Refuse settings that contradict each other. Also refuse unavailable settings that promise safety or sharing:
        the server must not accept such a setting and then ignore it."""
        faults = {
            "QUEUE_CHUNKS × CHUNK_BYTES is more than MEMORY_BUDGET: no stream would ever fit": (
                self.queue_chunks * self.chunk_bytes > self.memory_budget
            ),
            "REQUIRE_KEY: set API_KEYS_FILE, too; `serverpy serve --create-key` makes the file and a first key": (
                self.require_key and self.api_keys_file is None
            ),
            "STATE_URL: only memory:// is available in this version": self.state_url != "memory://",
        }
        if any(faults.values()):
            raise ValueError("\n".join(line for line, present in faults.items() if present))
        return self

    # The groups of `serverpy/options.py`

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(
            wait=self.wait_seconds,
            extract=self.extract_timeout,
            stall=self.stall_timeout,
            connect=self.connect_timeout,
        )

    def targets(self, own: Sockets = ()) -> Targets:
        """Return the addresses that the server may reach. `own` are the sockets on which the server listens."""
        return Targets(allow_networks=self.allow_networks, deny_ports=self.deny_ports, own=own)

    @property
    def served_hosts(self) -> frozenset[str] | None:
        """The names that the server answers for besides IP addresses and `localhost`; None for all names."""
        return None if self.open or self.require_key else self.own_hosts

    @property
    def own_hosts(self) -> frozenset[str]:
        """The names of this server that the settings name."""
        public = None if self.public_url is None else urlsplit(self.public_url).hostname
        own = [host_name(name) for name in (self.host, public) if name and ":" not in name]
        return frozenset({*own, *self.allowed_hosts})

    @property
    def sites(self) -> Sites:
        return Sites(allow=self.allow_sites, deny=self.deny_sites, generic=self.generic_extractor)

    @property
    def network(self) -> Network:
        return Network(proxy=self.proxy, source_address=self.source_address, ca_file=_text(self.ca_file))

    @property
    def identity(self) -> Identity:
        return Identity(cookies_file=_text(self.cookies_file), impersonate=self.impersonate)

    @property
    def limits(self) -> Limits:
        return Limits(
            max_streams=self.max_streams,
            memory_budget=self.memory_budget,
            extract_workers=self.extract_workers,
            max_workers=self.max_workers,
            max_children=self.max_children,
            queue_chunks=self.queue_chunks,
            chunk_bytes=self.chunk_bytes,
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def load_settings(**overrides: Any) -> Settings:
    """Load the settings of this process. An override of None counts as not given. Raises `ConfigurationError` if a
    setting is invalid. Logs a warning for variables that look like settings but are not, and for RATE_LIMIT, which is
    not enforced yet."""
    settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    known = {CONFIG_VARIABLE, *(environment_name(name) for name in Settings.model_fields)}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            logger.warning("%s is not a setting of ServerPY", name)
    if settings.rate_limit not in (None, Settings.model_fields["rate_limit"].default):
        logger.warning("RATE_LIMIT is not enforced in this version")
    return settings
