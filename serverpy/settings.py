"""Every setting of ServerPY: one typed, frozen value, from which the options of `serve` and docs/settings.md are made.

Sources, weakest first: the file `serverpy.toml` (or the one that SERVERPY_CONFIG names; empty names none), the
environment (`SERVERPY_<NAME>`), keyword arguments. Whatever cannot work is a `ConfigurationError` with one line for
each fault; a line names the setting and where it came from, never its value. Nothing here is global: `load_settings`
gives a value, and its owner hands it on.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from serverpy.errors import ConfigurationError
from serverpy.memory import profile as profiles
from serverpy.net.ports import BAD_PORTS

logger = logging.getLogger(__name__)

PREFIX = "SERVERPY_"
CONFIG_VARIABLE = "SERVERPY_CONFIG"
CONFIG_FILE = "serverpy.toml"

MethodName: TypeAlias = Literal["auto", "relay", "embedded", "subprocess"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_RATE = re.compile(r"\d+\s*(?:/|per)\s*(?:\d+\s*)?(?:second|minute|hour|day|month|year)s?", re.IGNORECASE)
_RATE_SEPARATOR = re.compile(r"\s*[,;|]\s*")
_PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")


def parse_size(value: object) -> object:
    """`64KiB`, `1.5 GiB` or `4096` as a number of bytes; what is not a string is left to the type."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError("must be a number of bytes, or a number with KiB, MiB, GiB or TiB")
    size = float(match[1]) * _UNITS[match[2].lower()] if "." in match[1] else int(match[1]) * _UNITS[match[2].lower()]
    if size != int(size):
        raise ValueError("must be a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back as the same number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _UNITS[unit.lower()] == 0:
            return f"{size // _UNITS[unit.lower()]}{unit}"
    return str(size)


def _split(value: object) -> object:
    """A list written as one string, by commas or spaces."""
    if not isinstance(value, str):
        return value
    words = re.split(r"[\s,]+", value.strip(" \t\r\n,"))
    return () if words in ([""], ["none"]) else tuple(words)


def _split_sites(value: object) -> object:
    """As `_split`, but `all` is the word for "no limit", and `none` is a site that does not exist."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return ("none",)
    return () if isinstance(value, str) and value.strip().lower() == "all" else _split(value)


def _nothing(value: object) -> object:
    """An empty value, or the word `none`, leaves an optional setting unset."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _never(value: object) -> object:
    """As `_nothing`, for a duration whose 0 means that it never ends."""
    return 0.0 if _nothing(value) is None else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _no_controls(value: str) -> str:
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError("must not contain control characters")
    return value


def _one_word(value: str) -> str:
    if not value or re.search(r"[\s,]", value):
        raise ValueError("each item must be one word without commas or spaces")
    return _no_controls(value)


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("each item must be an address or a network such as 10.0.0.0/8") from None
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (parts.scheme not in ("http", "https") or not parts.hostname or value != _origin_of(value)):
        raise ValueError("each item must be * or an origin such as https://example.org")
    return value


def _origin_of(value: str) -> str:
    parts = urlsplit(value)
    return f"{parts.scheme}://{parts.netloc}"


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IP address of this machine") from None


def _proxy(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme.lower() in _PROXY_SCHEMES and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"must be scheme://[user:password@]host:port with one of {', '.join(_PROXY_SCHEMES)}")
    return _no_controls(value)


def _rate(value: str) -> str:
    if not all(_RATE.fullmatch(part) for part in _RATE_SEPARATOR.split(value)):
        raise ValueError("must be as in 60/minute or 10/second;1000/day")
    return value


def _readable_file(value: Path) -> Path:
    """Absolute, so that a child started elsewhere finds the same file."""
    path = value.expanduser().absolute()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("there is no such file, or it cannot be read")
    return path


def _long_enough(value: SecretStr) -> SecretStr:
    _no_controls(value.get_secret_value())
    if len(value.get_secret_value()) < 16:
        raise ValueError("must have 16 characters or more")
    return value


Count: TypeAlias = Annotated[int, Field(ge=1)]
Size: TypeAlias = Annotated[int, BeforeValidator(parse_size)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Words: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_one_word)], ...], BeforeValidator(_split)]
Sites: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_one_word)], ...], BeforeValidator(_split_sites)]
Networks: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]
Origins: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
Ports: TypeAlias = Annotated[frozenset[Annotated[int, Field(ge=0, le=65535)]], BeforeValidator(_split)]
OptionalFile: TypeAlias = Annotated[Annotated[Path, AfterValidator(_readable_file)] | None, BeforeValidator(_nothing)]
OptionalText: TypeAlias = Annotated[Annotated[str, AfterValidator(_one_word)] | None, BeforeValidator(_nothing)]


def _setting(description: str, *, unit: str = "", shown: str | None = None, **more: Any) -> Any:
    """A field with what `--help` and the docs say of it: `unit`, and `shown` where the default is no plain value."""
    return Field(description=description, json_schema_extra={"unit": unit, "shown": shown}, **more)


def _by_profile(attribute: str) -> Callable[[dict[str, Any]], int]:
    """A default taken from the profile, which is validated before (fields are, in their order)."""
    return lambda data: int(getattr(profiles.resolve(data["profile"]), attribute))


class Settings(BaseSettings):
    """All settings, checked and resolved: what depends on the profile is a number here. Durations are seconds, sizes
    bytes. Constructing one reads the file and the environment, and raises `ConfigurationError`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        enable_decoding=False,  # lists are words, not JSON
        hide_input_in_errors=True,  # an input may be a secret
        str_strip_whitespace=True,
        validate_default=True,
    )

    host: Annotated[str, AfterValidator(_one_word)] = _setting("Address to listen on.", default="127.0.0.1")
    port: Annotated[int, Field(ge=0, le=65535)] = _setting("Port to listen on; 0 takes a free one.", default=8000)
    workers: Count = _setting("Serving processes.", default=1, unit="processes")

    profile: Annotated[Literal["auto", "small", "medium", "large"], BeforeValidator(_lower)] = _setting(
        "Size of the server: sets MAX_WORKERS, QUEUE_CHUNKS, MAX_STREAMS and MEMORY_BUDGET where they are not set "
        "themselves. `auto` goes by the memory limit of the cgroup or machine, then by its cores.",
        default="auto",
    )
    extract_workers: Count = _setting(
        "Extractions at once. They hold the interpreter lock: more only adds lag.", default=2, unit="threads"
    )
    worker_idle: Annotated[Seconds, BeforeValidator(_never)] = _setting(
        "How long the process that runs yt-dlp is kept while nothing needs it (about 55 MB; the next need takes a "
        "second or two to start one); 0: for ever.",
        default=300.0,
        unit="seconds",
    )
    max_workers: Count = _setting(
        "Threads of the embedded method, one for each running stream; with none free a request waits.",
        default_factory=_by_profile("max_workers"),
        unit="threads",
        shown="by profile",
    )
    max_children: Count = _setting(
        "Children of the subprocess method at once, about 55 MB each outside MEMORY_BUDGET.",
        default=2,
        unit="processes",
    )
    queue_chunks: Count = _setting(
        "Length of the embedded method's hand-over: at most QUEUE_CHUNKS × CHUNK_BYTES bytes.",
        default_factory=_by_profile("queue_chunks"),
        unit="chunks",
        shown="by profile",
    )
    chunk_bytes: Annotated[Size, Field(ge=1024, le=16 * 1024 * 1024)] = _setting(
        "Largest piece in which the embedded and subprocess methods take bytes from their hand-over; a stream of "
        "theirs holds two. The relay has steps of its own.",
        default=65536,
        unit="bytes",
    )
    max_streams: Count = _setting(
        "Streams at once. The next waits WAIT_SECONDS, then is answered 503 with `Retry-After`.",
        default_factory=_by_profile("max_streams"),
        unit="streams",
        shown="by profile",
    )
    memory_budget: Annotated[Size, Field(ge=1024 * 1024)] = _setting(
        "Bytes that all streams of one process together may hold; reserved before the first byte.",
        default_factory=_by_profile("memory_budget"),
        unit="bytes",
        shown="by profile",
    )

    wait_seconds: Seconds = _setting(
        "How long a request waits for a free place before it is told that the server is busy.",
        default=15.0,
        unit="seconds",
    )
    extract_timeout: PositiveSeconds = _setting("Longest extraction.", default=60.0, unit="seconds")
    stall_timeout: PositiveSeconds = _setting(
        "Longest silence of a media server, or of a client that takes nothing.", default=60.0, unit="seconds"
    )
    connect_timeout: PositiveSeconds = _setting("Longest attempt to connect.", default=10.0, unit="seconds")
    drain_seconds: Seconds = _setting(
        "How long running streams may go on once the server was told to stop.", default=30.0, unit="seconds"
    )

    method: Annotated[MethodName, BeforeValidator(_lower)] = _setting(
        "Streaming method where the request names none.", default="auto"
    )
    cache_ttl: Seconds = _setting("How long an extraction may be used again; 0: never.", default=300.0, unit="seconds")
    cache_size: Annotated[int, Field(ge=0)] = _setting("Extractions kept.", default=1000, unit="entries")
    state_url: Annotated[str, AfterValidator(_one_word)] = _setting(
        "Where shared state lives: `memory://`, or `redis://…` to share it between processes and machines.",
        default="memory://",
    )
    gc_after_stream: bool = _setting("Collect garbage after each stream.", default=False)

    allow_networks: Words = _setting(
        "Networks outside the public internet that may be reached, each with a port where wished: `127.0.0.1:8001`.",
        default=(),
        unit="list",
    )
    deny_ports: Ports = _setting(
        "Ports that are never connected to, outside ALLOW_NETWORKS.",
        default=BAD_PORTS,
        unit="list",
        shown="the bad ports of WHATWG Fetch",
    )
    allow_sites: Sites = _setting("Extractors that may run.", default=(), unit="list", shown="all")
    deny_sites: Words = _setting("Extractors that may not run.", default=(), unit="list")
    generic_extractor: bool = _setting("Whether pages that no extractor knows are searched for media.", default=True)

    api_keys_file: OptionalFile = _setting("File of the API keys.", default=None)
    require_key: bool = _setting("Whether every request needs a key or a signed link.", default=False)
    link_secret: Annotated[SecretStr, AfterValidator(_long_enough)] = _setting(
        "Secret that signs links. Better in the environment or the file than as an option, which others can see.",
        default_factory=lambda: SecretStr(secrets.token_urlsafe(32)),
        shown="random at each start",
    )
    link_ttl: PositiveSeconds = _setting("Life of a signed link that asks for none.", default=21600.0, unit="seconds")
    rate_limit: Annotated[Annotated[str, AfterValidator(_rate)] | None, BeforeValidator(_nothing)] = _setting(
        "Requests that each key or address may make, in the syntax of the `limits` library.", default="60/minute"
    )
    trusted_proxies: Networks = _setting(
        "Addresses of proxies whose X-Forwarded-For is believed.", default=(), unit="list"
    )
    cors_origins: Origins = _setting(
        "Origins whose pages may call the server; `*` goes without credentials.", default=(), unit="list"
    )

    proxy: Annotated[Annotated[str, AfterValidator(_proxy)] | None, BeforeValidator(_nothing)] = _setting(
        "Proxy of extractions and media requests alike: http, socks4, socks4a, socks5 or socks5h, with its port. "
        "It is given addresses, never names.",
        default=None,
    )
    cookies_file: OptionalFile = _setting("Cookies in Netscape format, for extractions and media alike.", default=None)
    impersonate: OptionalText = _setting(
        "Browser whose requests are imitated, as yt-dlp names it: `chrome`, `chrome-120`.", default=None
    )
    source_address: Annotated[Annotated[str, AfterValidator(_address)] | None, BeforeValidator(_nothing)] = _setting(
        "Address of this machine from which connections are made.", default=None
    )
    ca_file: OptionalFile = _setting("Further certificates to trust, as PEM.", default=None)

    max_duration: Annotated[PositiveSeconds | None, BeforeValidator(_nothing)] = _setting(
        "Longest media that is streamed.", default=None, unit="seconds"
    )
    max_bytes: Annotated[Annotated[Size, Field(ge=1)] | None, BeforeValidator(_nothing)] = _setting(
        "Largest media that is streamed.", default=None, unit="bytes"
    )

    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = _setting("Least that is logged.", default="info")
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = _setting(
        "Log lines for people, or as JSON for machines.", default="text"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            faults = [_fault(details, values) for details in error.errors(include_input=False, include_url=False)]
            # `from None`: the original shows its inputs, which may be secrets.
            raise ConfigurationError("\n".join(fault for fault in faults if fault)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_file())

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

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """As pydantic's, with the password of PROXY masked (LINK_SECRET masks itself)."""
        shown = dict(super().__repr_args__())
        if self.proxy is not None:
            shown["proxy"] = mask_password(self.proxy)
        return list(shown.items())

    def to_environment(self) -> dict[str, str]:
        """These settings, whole, as the environment of a child: `load_settings()` there gives an equal value,
        whatever file lies about. Carries the secrets in clear."""
        environment = {environment_name(name): _as_text(getattr(self, name)) for name in type(self).model_fields}
        return {CONFIG_VARIABLE: "", **environment}


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


def environment_name(name: str) -> str:
    """The environment variable of the field `name`."""
    return PREFIX + name.upper()


def mask_password(url: str) -> str:
    """`url` with the password of its user info, if any, replaced by asterisks."""
    parts = urlsplit(url)
    user, separator, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not separator:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:***@{parts.netloc.rpartition('@')[2]}"))


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ",".join(str(item) for item in sorted(value))
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def _read_file() -> dict[str, Any]:
    """The file's keys in lower case. An explicitly named file must exist."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named == "":
        return {}
    path = Path(named or CONFIG_FILE)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is None:
            return {}
        raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {path}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    return _known_keys(content, path)


def _known_keys(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    values = {key.lower(): value for key, value in content.items()}
    unknown = [key for key in content if key.lower() not in Settings.model_fields]
    if unknown:
        raise ConfigurationError("\n".join(f"{path}: {key} is not a setting of ServerPY" for key in unknown))
    if len(values) < len(content):
        raise ConfigurationError(f"{path} sets the same key twice, in upper and in lower case")
    return values


def _fault(details: ErrorDetails, given: Mapping[str, Any]) -> str | None:
    """One line for people, without the value; None for what only follows from another fault."""
    if details["type"] == "default_factory_not_called":
        return None
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not details["loc"]:
        return message
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return f"{name} is not a setting of ServerPY"
    return f"{_origin_name(name, given)}: {message}"


def _origin_name(name: str, given: Mapping[str, Any]) -> str:
    if name in given:
        return name.upper()
    if any(variable.upper() == environment_name(name) for variable in os.environ):
        return environment_name(name)
    return f"{name} in {os.environ.get(CONFIG_VARIABLE) or CONFIG_FILE}"
