"""Every setting of ServerPY: one typed, frozen value, from which the options of `serve` and docs/settings.md are made.

A field is the one source of a setting's name, type, default and text. The parts of the server get groups of them
(`serverpy/options.py`). Nothing here is global: `load_settings` gives a value, and its owner hands it on.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, model_validator

from serverpy.extraction.sites import Sites
from serverpy.memory import profile as profiles
from serverpy.net.ports import BAD_PORTS
from serverpy.options import Identity, Limits, Network, Sockets, Targets, Timeouts
from serverpy.settings.sources import CONFIG_VARIABLE, PREFIX, SourcedSettings, environment_name
from serverpy.settings.types import (
    Count,
    LogFormat,
    LogLevel,
    MethodName,
    Networks,
    OptionalAddress,
    OptionalFile,
    OptionalProxy,
    OptionalRate,
    OptionalSeconds,
    OptionalSize,
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
    setting,
)

logger = logging.getLogger(__name__)


def _by_profile(attribute: str) -> Callable[[dict[str, Any]], int]:
    """A default taken from the profile, which is validated before (fields are, in their order)."""
    return lambda data: int(getattr(profiles.resolve(data["profile"]), attribute))


class Settings(SourcedSettings):
    """All settings, checked and resolved: what depends on the profile is a number here. Durations are seconds, sizes
    bytes."""

    host: Word = setting("Address to listen on.", default="127.0.0.1")
    port: Port = setting("Port to listen on; 0 takes a free one.", default=8000)
    workers: Count = setting("Serving processes.", default=1, unit="processes")

    profile: ProfileName = setting(
        "Size of the server: sets MAX_WORKERS, QUEUE_CHUNKS, MAX_STREAMS and MEMORY_BUDGET where they are not set "
        "themselves. `auto` goes by the memory limit of the cgroup or machine, then by its cores.",
        default="auto",
    )
    extract_workers: Count = setting(
        "Extractions at once. They hold the interpreter lock: more only adds lag.", default=2, unit="threads"
    )
    worker_idle: SecondsOrNever = setting(
        "How long the process that runs yt-dlp is kept while nothing needs it (about 55 MB; the next need takes a "
        "second or two to start one); 0: for ever.",
        default=300.0,
        unit="seconds",
    )
    max_workers: Count = setting(
        "Threads of the embedded method, one for each running stream; with none free a request waits.",
        default_factory=_by_profile("max_workers"),
        unit="threads",
        shown="by profile",
    )
    max_children: Count = setting(
        "Children of the subprocess method at once, about 55 MB each outside MEMORY_BUDGET.",
        default=2,
        unit="processes",
    )
    queue_chunks: Count = setting(
        "Length of the embedded method's hand-over: at most QUEUE_CHUNKS × CHUNK_BYTES bytes.",
        default_factory=_by_profile("queue_chunks"),
        unit="chunks",
        shown="by profile",
    )
    chunk_bytes: Annotated[Size, Field(ge=1024, le=16 * 1024 * 1024)] = setting(
        "Largest piece in which the embedded and subprocess methods take bytes from their hand-over; a stream of "
        "theirs holds two. The relay has steps of its own.",
        default=65536,
        unit="bytes",
    )
    max_streams: Count = setting(
        "Streams at once. The next waits WAIT_SECONDS, then is answered 503 with `Retry-After`.",
        default_factory=_by_profile("max_streams"),
        unit="streams",
        shown="by profile",
    )
    memory_budget: Annotated[Size, Field(ge=1024 * 1024)] = setting(
        "Bytes that all streams of one process together may hold; reserved before the first byte.",
        default_factory=_by_profile("memory_budget"),
        unit="bytes",
        shown="by profile",
    )

    wait_seconds: Seconds = setting(
        "How long a request waits for a free place before it is told that the server is busy.",
        default=15.0,
        unit="seconds",
    )
    extract_timeout: PositiveSeconds = setting("Longest extraction.", default=60.0, unit="seconds")
    stall_timeout: PositiveSeconds = setting(
        "Longest silence of a media server, or of a client that takes nothing.", default=60.0, unit="seconds"
    )
    connect_timeout: PositiveSeconds = setting("Longest attempt to connect.", default=10.0, unit="seconds")
    drain_seconds: Seconds = setting(
        "How long running streams may go on once the server was told to stop.", default=30.0, unit="seconds"
    )

    method: MethodName = setting("Streaming method where the request names none.", default="auto")
    cache_ttl: Seconds = setting("How long an extraction may be used again; 0: never.", default=300.0, unit="seconds")
    cache_size: Annotated[int, Field(ge=0)] = setting("Extractions kept.", default=1000, unit="entries")
    state_url: Word = setting(
        "Where shared state lives: `memory://`, or `redis://…` to share it between processes and machines.",
        default="memory://",
    )
    gc_after_stream: bool = setting("Collect garbage after each stream.", default=False)

    allow_networks: Words = setting(
        "Networks outside the public internet that may be reached, each with a port where wished: `127.0.0.1:8001`.",
        default=(),
        unit="list",
    )
    deny_ports: Ports = setting(
        "Ports that are never connected to, outside ALLOW_NETWORKS.",
        default=BAD_PORTS,
        unit="list",
        shown="the bad ports of WHATWG Fetch",
    )
    allow_sites: SiteNames = setting("Extractors that may run.", default=(), unit="list", shown="all")
    deny_sites: Words = setting("Extractors that may not run.", default=(), unit="list")
    generic_extractor: bool = setting("Whether pages that no extractor knows are searched for media.", default=True)

    api_keys_file: OptionalFile = setting("File of the API keys.", default=None)
    require_key: bool = setting("Whether every request needs a key or a signed link.", default=False)
    link_secret: Secret = setting(
        "Secret that signs links. Better in the environment or the file than as an option, which others can see.",
        default_factory=lambda: SecretStr(secrets.token_urlsafe(32)),
        shown="random at each start",
    )
    link_ttl: PositiveSeconds = setting("Life of a signed link that asks for none.", default=21600.0, unit="seconds")
    rate_limit: OptionalRate = setting(
        "Requests that each key or address may make, in the syntax of the `limits` library.", default="60/minute"
    )
    trusted_proxies: Networks = setting(
        "Addresses of proxies whose X-Forwarded-For is believed.", default=(), unit="list"
    )
    cors_origins: Origins = setting(
        "Origins whose pages may call the server; `*` goes without credentials.", default=(), unit="list"
    )

    proxy: OptionalProxy = setting(
        "Proxy of extractions and media requests alike: http, socks4, socks4a, socks5 or socks5h, with its port. "
        "It is given addresses, never names.",
        default=None,
    )
    cookies_file: OptionalFile = setting("Cookies in Netscape format, for extractions and media alike.", default=None)
    impersonate: OptionalWord = setting(
        "Browser whose requests are imitated, as yt-dlp names it: `chrome`, `chrome-120`.", default=None
    )
    source_address: OptionalAddress = setting("Address of this machine from which connections are made.", default=None)
    ca_file: OptionalFile = setting("Further certificates to trust, as PEM.", default=None)

    max_duration: OptionalSeconds = setting("Longest media that is streamed.", default=None, unit="seconds")
    max_bytes: OptionalSize = setting("Largest media that is streamed.", default=None, unit="bytes")

    log_level: LogLevel = setting("Least that is logged.", default="info")
    log_format: LogFormat = setting("Log lines for people, or as JSON for machines.", default="text")

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        """What promises safety, or sharing, must not be accepted and then ignored: it is refused."""
        faults = {
            "QUEUE_CHUNKS × CHUNK_BYTES is more than MEMORY_BUDGET: no stream would ever fit": (
                self.queue_chunks * self.chunk_bytes > self.memory_budget
            ),
            "REQUIRE_KEY: API keys are not available in this version": self.require_key,
            "API_KEYS_FILE: API keys are not available in this version": self.api_keys_file is not None,
            "STATE_URL: only memory:// is available in this version": self.state_url != "memory://",
        }
        if any(faults.values()):
            raise ValueError("\n".join(line for line, present in faults.items() if present))
        return self

    # The groups

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(
            wait=self.wait_seconds,
            extract=self.extract_timeout,
            stall=self.stall_timeout,
            connect=self.connect_timeout,
        )

    def targets(self, own: Sockets = ()) -> Targets:
        """`own` are the sockets that the server listens on."""
        return Targets(allow_networks=self.allow_networks, deny_ports=self.deny_ports, own=own)

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
    """The settings of this process; an override of None counts as not given. Raises `ConfigurationError`; warns,
    through logging, of variables that look like settings but are none, and of a limit that nothing enforces yet."""
    settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    known = {CONFIG_VARIABLE, *(environment_name(name) for name in Settings.model_fields)}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            logger.warning("%s is not a setting of ServerPY", name)
    if settings.rate_limit not in (None, Settings.model_fields["rate_limit"].default):
        logger.warning("RATE_LIMIT is not enforced in this version")
    return settings
