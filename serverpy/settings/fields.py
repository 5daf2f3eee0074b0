"""Every setting of ServerPY, as one typed, frozen value. The options of `serverpy serve` and the page docs/settings.md
are made from the fields. A field is the only source of a setting's name, type, default and description. The components
of the server receive groups of settings (`serverpy/options.py`). No global variable holds the settings: `load_settings`
returns the settings, and their owner passes them on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from serverpy.extraction.sites import Sites
from serverpy.memory import profile as profiles
from serverpy.net.ports import BAD_PORTS
from serverpy.options import ClientLimits, Codec, Identity, Limits, Network, ProxyDns, Sockets, Targets, Timeouts
from serverpy.settings.sources import CONFIG_VARIABLE, PREFIX, SourcedSettings, environment_name
from serverpy.settings.types import (
    Count,
    HostNames,
    LogFormat,
    LogLevel,
    MethodName,
    Networks,
    OptionalAddress,
    OptionalDirectory,
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
    RootPath,
    Seconds,
    SecondsOrNever,
    Secrets,
    SiteNames,
    Size,
    Word,
    Words,
    host_name,
    setting,
)

logger = logging.getLogger(__name__)

DEFAULT_RATE = "60/minute"


def _by_profile(attribute: str) -> Callable[[dict[str, Any]], int]:
    """Return a function that returns the profile's value of `attribute`, as the default factory of a field. When it is
    called, the field `profile` is already validated, because pydantic validates fields in order."""
    return lambda data: int(getattr(profiles.resolve(data["profile"]), attribute))


def _state_directory() -> str | None:
    """Return the default of STATE_DIR according to the XDG Base Directory Specification, which ignores relative paths.
    Returns None if the user has no home directory."""
    given = os.environ.get("XDG_STATE_HOME", "")
    parent = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".local", "state")
    return str(parent / "serverpy") if parent.is_absolute() else None


class Settings(SourcedSettings):
    """All settings, validated. A setting that the operator has not set has its default value, or the value of the
    profile. Durations are in seconds, sizes in bytes."""

    host: Word = setting("IP address or host name that the server listens on.", default="127.0.0.1")
    port: Port = setting("Port that the server listens on; 0 lets the system choose a free port.", default=8000)
    workers: Count = setting("Number of server processes that share the port.", default=1, unit="processes")

    profile: ProfileName = setting(
        "Size of the server, which sets the defaults of MAX_WORKERS, QUEUE_CHUNKS, MAX_STREAMS and MEMORY_BUDGET. "
        "`auto` chooses the size according to the memory and the CPU cores of the machine or the cgroup.",
        default="auto",
    )
    extract_workers: Count = setting(
        "Maximum number of extractions that parse a page at the same time. Extractions hold Python's interpreter lock, "
        "so a larger number only delays each of them. An extraction that waits for a site does not count.",
        default=2,
        unit="threads",
    )
    max_extractions: Count = setting(
        "Maximum number of extractions in progress, including those that wait for a site. One client may have at most "
        "half of them, and one host at most a quarter. Further extractions wait up to WAIT_SECONDS. Then the client "
        "gets a 503 response with `Retry-After`.",
        default=16,
        unit="extractions",
    )
    worker_idle: SecondsOrNever = setting(
        "Time since its last request after which the server stops an idle yt-dlp process (about 55 MB of memory): "
        "the process that extracts pages, or the process that downloads for the embedded method. To start a process "
        "again takes one to two seconds. With 0, the server keeps idle processes.",
        default=300.0,
        unit="seconds",
    )
    max_workers: Count = setting(
        "Maximum number of streams of the embedded method that run at the same time, each in a thread of its "
        "own. Requests for this method that exceed the limit wait.",
        default_factory=_by_profile("max_workers"),
        unit="threads",
        shown="by profile",
    )
    max_children: Count = setting(
        "Maximum number of streams of the subprocess method that run at the same time, each in a child "
        "process of its own. A child process takes about 55 MB of memory, which MEMORY_BUDGET does not include.",
        default=2,
        unit="processes",
    )
    queue_chunks: Count = setting(
        "Capacity of the pipe from yt-dlp to the server, for a stream of the embedded or subprocess "
        "method. The pipe holds at most QUEUE_CHUNKS × CHUNK_BYTES bytes.",
        default_factory=_by_profile("queue_chunks"),
        unit="chunks",
        shown="by profile",
    )
    chunk_bytes: Annotated[Size, Field(ge=1024, le=16 * 1024 * 1024)] = setting(
        "Maximum number of bytes that a stream of the embedded or subprocess method reads from its pipe in one read. "
        "Such a stream holds two chunks of this size in memory. The relay method does not use this setting.",
        default=65536,
        unit="bytes",
    )
    max_streams: Count = setting(
        "Maximum number of streams that run at the same time. Requests that exceed the limit wait up to "
        "WAIT_SECONDS. A request that is not admitted in that time gets a 503 response with `Retry-After`.",
        default_factory=_by_profile("max_streams"),
        unit="streams",
        shown="by profile",
    )
    memory_budget: Annotated[Size, Field(ge=1024 * 1024)] = setting(
        "Maximum memory that all streams of one server process may hold together. The server "
        "reserves the memory of a stream before it opens the stream.",
        default_factory=_by_profile("memory_budget"),
        unit="bytes",
        shown="by profile",
    )

    wait_seconds: Seconds = setting(
        "Maximum time that a request waits while the server has reached MAX_STREAMS or MEMORY_BUDGET. Then the request "
        "gets a 503 response.",
        default=15.0,
        unit="seconds",
    )
    extract_timeout: PositiveSeconds = setting(
        "Maximum time that the extraction of a page may take.", default=60.0, unit="seconds"
    )
    stall_timeout: PositiveSeconds = setting(
        "Maximum time in which a media server sends no byte, or a client reads no byte, before the stream fails.",
        default=60.0,
        unit="seconds",
    )
    connect_timeout: PositiveSeconds = setting(
        "Maximum time that opening a connection to a site or media server may take.", default=10.0, unit="seconds"
    )
    drain_seconds: Seconds = setting(
        "Maximum time that running streams may continue after the server has received a signal to stop.",
        default=30.0,
        unit="seconds",
    )

    method: MethodName = setting("Streaming method of a request without the parameter `method`.", default="auto")
    cache_ttl: Seconds = setting(
        "Time for which the server may reuse the extraction of a page; 0 turns the cache off.",
        default=300.0,
        unit="seconds",
    )
    cache_size: Annotated[int, Field(ge=0)] = setting(
        "Maximum number of extractions in the cache.", default=1000, unit="entries"
    )
    state_url: Word = setting(
        "URL of the store for state that server processes share: `memory://`, or `redis://…`, which "
        "also works across machines. This version supports only `memory://`.",
        default="memory://",
    )
    gc_after_stream: bool = setting("Whether Python's garbage collector runs after each stream.", default=False)

    allow_networks: Words = setting(
        "Networks outside the public internet that the server may connect to, each with an optional "
        "port, for example `127.0.0.1:8001`.",
        default=(),
        unit="list",
    )
    deny_ports: Ports = setting(
        "Ports that the server does not connect to, unless ALLOW_NETWORKS allows the connection.",
        default=BAD_PORTS,
        unit="list",
        shown="the bad ports of WHATWG Fetch",
    )
    allow_sites: SiteNames = setting(
        "Names of the yt-dlp extractors that may run, for example `youtube`.", default=(), unit="list", shown="all"
    )
    deny_sites: Words = setting(
        "Names of the yt-dlp extractors that must not run, for example `youtube`.", default=(), unit="list"
    )
    generic_extractor: bool = setting(
        "Whether yt-dlp's generic extractor searches for media on pages that no other extractor supports.", default=True
    )

    api_keys_file: OptionalPath = setting(
        "File with the API keys (docs/access.md); changes take effect without a restart.", default=None
    )
    require_key: bool = setting(
        "Whether clients need an API key or a signed link. A few routes, such as `/ready` and `/login`, need neither.",
        default=False,
    )
    admin_networks: Networks = setting(
        "Addresses and networks of clients that may read `/health` and `/metrics`, and see and end all streams, "
        "without an admin key. With REQUIRE_KEY, they need a key to see or end streams.",
        default=("127.0.0.0/8", "::1"),
        unit="list",
        shown="loopback",
    )
    link_secret: Secrets = setting(
        "Secrets that sign links: the first one signs new links, and a link that any of them signed is valid. Set them "
        "in the environment or in serverpy.toml, because other users of the machine can see command-line options.",
        default=(),
        unit="list",
        shown="random at first need, kept in STATE_DIR",
    )
    link_ttl: PositiveSeconds = setting("Default lifetime of a signed link.", default=21600.0, unit="seconds")
    state_dir: OptionalDirectory = setting(
        "Directory in which the server stores the secret that signs links, if LINK_SECRET is not set. The server "
        "creates the directory with mode 0700 when it first needs it. With `none`, the server stores no secret.",
        default_factory=_state_directory,
        shown="`$XDG_STATE_HOME/serverpy`, or `~/.local/state/serverpy`",
    )
    rate_limit: OptionalRate = setting(
        "Maximum rate of page extractions for each API key or client address (IPv6: each /64), in the syntax of the "
        "`limits` library, for example `10/second;1000/day`. Each rate must have another time window, of 1 second to "
        "366 days. Requests for cached pages are not counted. The default does not apply to clients on the server's "
        "own machine; any other value applies to them, too.",
        default=DEFAULT_RATE,
    )
    client_streams: Count = setting(
        "Maximum number of open streams for each API key or client address (IPv6: each /64). Requests that exceed the "
        "limit get a 429 response. Clients on the server's own machine may open any number of streams, unless they use "
        "a key.",
        default_factory=lambda data: max(1, int(data["max_streams"]) // 4),
        unit="streams",
        shown="MAX_STREAMS / 4",
    )
    client_connections: Count = setting(
        "Maximum number of simultaneous connections of each client address (IPv6: each /64). Further connections get a "
        "429 response. Clients on the server's own machine and TRUSTED_PROXIES may open any number. For a client that "
        "a trusted proxy names, the limit applies to its simultaneous requests.",
        default=100,
        unit="connections",
    )
    min_rate: Annotated[int, Field(ge=0)] = setting(
        "Minimum number of bytes per second that a client must read, measured over STALL_TIMEOUT. While other "
        "requests wait because too many streams are open, the server aborts slower streams. 0 turns the limit off.",
        default=512,
        unit="bytes",
    )
    trusted_proxies: Networks = setting(
        "IP addresses or networks of reverse proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host the "
        "server trusts.",
        default=(),
        unit="list",
    )
    cors_origins: Origins = setting(
        "Web origins whose pages may send requests to the server (CORS), also with a session cookie or a Basic "
        "password; `*` allows all origins, without credentials.",
        default=(),
        unit="list",
    )

    allowed_hosts: HostNames = setting(
        "Host names that the server accepts in the Host header, besides IP addresses, `localhost`, HOST and the host "
        "of PUBLIC_URL. A request with another Host gets a 421 response (protection from DNS rebinding). The setting "
        "is needed if clients reach the server by a host name, for example in Docker, or through a reverse proxy that "
        "passes the Host header on. With REQUIRE_KEY or OPEN, the server accepts every Host.",
        default=(),
        unit="list",
    )
    public_url: OptionalUrl = setting(
        "URL at which clients reach this server if it differs from HOST and PORT, for example `https://media.example`. "
        "If the URL has no path, ROOT_PATH is appended.",
        default=None,
    )
    root_path: RootPath = setting(
        "Path below which a reverse proxy publishes this server, for example `/media`. The proxy may remove the path "
        "from requests, but need not.",
        default="",
    )
    open: bool = setting(
        "Whether everybody may use the server without a key. Without REQUIRE_KEY, the server listens on addresses "
        "other than loopback, and serves requests from proxies, only if OPEN is set. With OPEN, the server also "
        "accepts every Host (see ALLOWED_HOSTS).",
        default=False,
    )

    proxy: OptionalProxy = setting(
        "URL of a proxy for extractions and media requests, with its port. The scheme is http, socks4, socks4a, socks5 "
        "or socks5h.",
        default=None,
    )
    proxy_dns: ProxyDns = setting(
        "Who resolves the host names of pages and media if PROXY is set. `local`: this server, which checks the "
        "addresses and sends them to the proxy. `remote`: the proxy. Then no name leaves this machine by DNS, and "
        "names that only the proxy knows (`.onion`) can be reached. The proxy itself must refuse private addresses.",
        default="local",
    )
    cookies_file: OptionalFile = setting(
        "File with cookies in Netscape format, which the server sends with extractions and media requests.",
        default=None,
    )
    impersonate: OptionalWord = setting(
        "Browser that the server impersonates in requests to sites and media servers, by yt-dlp's name for it, for "
        "example `chrome` or `chrome-120`. If it is set, yt-dlp fetches all media, and the method `relay` is not "
        "used: no ranges, no merge of separate video and audio, and no live HLS.",
        default=None,
    )
    source_address: OptionalAddress = setting(
        "Local IP address from which the server makes its outgoing connections.", default=None
    )
    ca_file: OptionalFile = setting(
        "PEM file with CA certificates that the server trusts in addition to the default CA certificates.", default=None
    )

    default_height: Count = setting(
        "Maximum height of the video that a request without `format` and `height` gets, in pixels, measured on the "
        "shorter side. If all formats of a page are higher, the request gets the lowest format.",
        default=1080,
        unit="pixels",
    )
    default_codec: Codec = setting(
        "Video codec that is preferred among formats of equal height if a request has neither `format` nor `codec`.",
        default="h264",
    )

    max_duration: OptionalSeconds = setting(
        "Maximum duration of media that the server streams.", default=None, unit="seconds"
    )
    max_bytes: OptionalSize = setting("Maximum size of media that the server streams.", default=None, unit="bytes")

    log_level: LogLevel = setting("Lowest level of the log messages that the server writes.", default="info")
    log_format: LogFormat = setting("Format of log lines: text, or one JSON object per line.", default="text")

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        """Refuse settings that contradict each other. Also refuse settings for security or shared state that this
        version does not support, because the server must not accept such a setting and then ignore it. Raises
        `ValueError` with one line for each fault."""
        faults = {
            "QUEUE_CHUNKS × CHUNK_BYTES is more than MEMORY_BUDGET, so no stream can start: change one of them": (
                self.queue_chunks * self.chunk_bytes > self.memory_budget
            ),
            "REQUIRE_KEY: set API_KEYS_FILE, too; `serverpy serve --create-key` creates the file and an admin key": (
                self.require_key and self.api_keys_file is None
            ),
            "PROXY_DNS: `remote` needs PROXY": self.proxy_dns == "remote" and self.proxy is None,
            "STATE_URL: only memory:// is available in this version": self.state_url != "memory://",
        }
        if any(faults.values()):
            raise ValueError("\n".join(line for line, present in faults.items() if present))
        return self

    # Properties that return the groups of `serverpy/options.py`

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(
            wait=self.wait_seconds,
            extract=self.extract_timeout,
            stall=self.stall_timeout,
            connect=self.connect_timeout,
        )

    def targets(self, own: Sockets = ()) -> Targets:
        """Return the rules for the addresses that the server may connect to. `own` are the addresses and ports that the
        server listens on."""
        return Targets(allow_networks=self.allow_networks, deny_ports=self.deny_ports, own=own)

    @property
    def served_hosts(self) -> frozenset[str] | None:
        """The host names that the server accepts in Host besides IP addresses and `localhost`. None if it accepts
        all."""
        return None if self.open or self.require_key else self.own_hosts

    @property
    def own_hosts(self) -> frozenset[str]:
        """The host names of this server: HOST, the host of PUBLIC_URL, and ALLOWED_HOSTS."""
        public = None if self.public_url is None else urlsplit(self.public_url).hostname
        own = [host_name(name) for name in (self.host, public) if name and ":" not in name]
        return frozenset({*own, *self.allowed_hosts})

    @property
    def sites(self) -> Sites:
        return Sites(allow=self.allow_sites, deny=self.deny_sites, generic=self.generic_extractor)

    @property
    def network(self) -> Network:
        return Network(
            proxy=self.proxy,
            proxy_dns=self.proxy_dns,
            source_address=self.source_address,
            ca_file=_text(self.ca_file),
        )

    @property
    def identity(self) -> Identity:
        return Identity(cookies_file=_text(self.cookies_file), impersonate=self.impersonate)

    @property
    def client_limits(self) -> ClientLimits:
        """The limits of each client. The default of RATE_LIMIT does not apply to clients on the server's own
        machine."""
        local_rate = None if self.rate_limit == DEFAULT_RATE else self.rate_limit
        return ClientLimits(
            rate=self.rate_limit,
            local_rate=local_rate,
            streams=self.client_streams,
            connections=self.client_connections,
            min_rate=self.min_rate,
        )

    @property
    def limits(self) -> Limits:
        return Limits(
            max_streams=self.max_streams,
            memory_budget=self.memory_budget,
            extract_workers=self.extract_workers,
            max_extractions=self.max_extractions,
            max_workers=self.max_workers,
            max_children=self.max_children,
            queue_chunks=self.queue_chunks,
            chunk_bytes=self.chunk_bytes,
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def load_settings(**overrides: Any) -> Settings:
    """Load the settings of this process. An override of None has no effect. Raises `ConfigurationError` if a
    setting is invalid. Logs a warning for environment variables that look like settings but are not."""
    settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    known = {CONFIG_VARIABLE, *(environment_name(name) for name in Settings.model_fields)}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            logger.warning("%s is not a setting of ServerPY", name)
    return settings
