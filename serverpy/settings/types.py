"""The types of the settings: the text that each type accepts, and the error message if a value is invalid. An error
message does not contain the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from serverpy.options import Method

_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4}
_DECIMAL_UNITS = {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_RATE = re.compile(
    r"(\d{1,9})\s*(?:/|per)\s*(\d{1,9})?\s*(second|minute|hour|day|month|year)s?", re.ASCII | re.IGNORECASE
)
_WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 30 * 86400, "year": 360 * 86400}
"""Seconds in each unit of a rate's time window, as in the `limits` library."""
_MAX_WINDOW = 366 * 86400
_RATE_SEPARATOR = re.compile(r"\s*[,;|]\s*")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")


def setting(description: str, *, unit: str = "", shown: str | None = None, **more: Any) -> Any:
    """Define the field of a setting. `unit` is the unit that `--help` and docs/settings.md show. `shown` is the text
    that `--help` and docs/settings.md show as the default if the default is not a constant."""
    return Field(description=description, json_schema_extra={"unit": unit, "shown": shown}, **more)


def parse_size(value: object, units: Mapping[str, int] = _UNITS) -> object:
    """Parse `64KiB`, `1.5 GiB` or `4096` as a number of bytes. Returns a value that is not a string unchanged."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2].lower() not in units:
        *names, last = [name.upper().replace("IB", "iB") for name in units if name]
        raise ValueError(f"must be a number of bytes, or a number with {', '.join(names)} or {last}")
    unit = units[match[2].lower()]
    size = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
    if size != int(size):
        raise ValueError("must be a whole number of bytes")
    return int(size)


def parse_size_of_media(value: object) -> object:
    """Parse the size of media in a request, as `parse_size` does. Also accepts decimal units, such as `50MB`."""
    return parse_size(value, {**_UNITS, **_DECIMAL_UNITS})


def format_size(size: int) -> str:
    """Return `size` with the largest unit of which it is a multiple, for example `64KiB`; `parse_size` parses the text
    back to `size`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _UNITS[unit.lower()] == 0:
            return f"{size // _UNITS[unit.lower()]}{unit}"
    return str(size)


def mask_password(url: str) -> str:
    """Return `url` with the password in its user info replaced by asterisks, if it has a password."""
    parts = urlsplit(url)
    user, separator, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not separator:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:***@{parts.netloc.rpartition('@')[2]}"))


def host_name(text: str) -> str:
    """Return the host name `text` in the form in which browsers send it: in lower case, in ASCII (IDNA), without the
    final dot. Raises `ValueError` if `text` is not a host name."""
    if not text.isascii():
        import idna  # a late import, because `idna` is rarely needed and its tables are large

        text = idna.encode(text, uts46=True).decode()
    name = text.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("the text is not a host name")
    return name


# Functions that run before validation: they convert text to a value that the type accepts


def _split(value: object) -> object:
    """Split a list that is given as one string with commas or spaces into a tuple. Returns a value that is not a string
    unchanged."""
    if not isinstance(value, str):
        return value
    words = re.split(r"[\s,]+", value.strip(" \t\r\n,"))
    return () if words in ([""], ["none"]) else tuple(words)


def _split_sites(value: object) -> object:
    """Split a list of sites as `_split` does. `all` becomes the empty list, which allows all sites; `none` becomes a
    list of one site that does not exist, which allows no site."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return ("none",)
    return () if isinstance(value, str) and value.strip().lower() == "all" else _split(value)


def _unset(value: object) -> object:
    """Return None if `value` is empty or the word `none`, otherwise `value`."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _never(value: object) -> object:
    """Return 0 if `value` is empty or the word `none`, otherwise `value`. This is for durations for which 0 means "for
    ever"."""
    return 0.0 if _unset(value) is None else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


# Functions that run after validation: they check conditions that the type does not express


def _no_controls(value: str) -> str:
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError("must not contain control characters")
    return value


def _one_word(value: str) -> str:
    if not value or re.search(r"[\s,]", value):
        raise ValueError("must be one word without commas or spaces, and not empty")
    return _no_controls(value)


def _item(value: str) -> str:
    """Check an item of a list of words."""
    try:
        return _one_word(value)
    except ValueError as error:
        raise ValueError(f"each item {error}") from None


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("each item must be an address or a network such as 10.0.0.0/8") from None
    return value


def _origin(value: str) -> str:
    try:
        return value if value == "*" else _serialized_origin(_no_controls(value))
    except ValueError:
        raise ValueError("each item must be * or an origin such as https://example.org") from None


def _serialized_origin(value: str) -> str:
    """Return the origin `value` as browsers send it in Origin: in lower case, in ASCII (IDNA), without the default
    port. Raises ValueError if `value` is not an origin with the scheme http or https."""
    parts = urlsplit(value)
    host, port = parts.hostname or "", parts.port
    if parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError("the text is not an origin")
    name = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host_name(host)
    return f"{parts.scheme}://{name}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def _host_name(value: str) -> str:
    try:
        return host_name(value)
    except ValueError:
        raise ValueError("each item must be a host name such as media.example.org, without scheme and port") from None


def _public_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and "@" not in parts.netloc and bool(parts.hostname)
        usable = usable and parts.port != 0 and not (parts.query or parts.fragment or re.search(r"\s", value))
        if usable and ":" not in (parts.hostname or ""):
            host_name(parts.hostname or "")
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as https://media.example.org")
    return _no_controls(value)


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


def check_rate(value: str) -> str:
    """Return `value` if it is a rate in the syntax of the `limits` library. Raises ValueError otherwise, and also if a
    number is 0 or has more than 9 digits, if a time window is longer than 366 days, or if two rates have the same time
    window."""
    parts = [_RATE.fullmatch(part) for part in _RATE_SEPARATOR.split(value)]
    found = [(int(part[1]), int(part[2] or 1) * _WINDOWS[part[3].lower()]) for part in parts if part is not None]
    windows = [window for _, window in found]
    are_valid = all(count >= 1 and 1 <= window <= _MAX_WINDOW for count, window in found)
    if None in parts or not are_valid or len(set(windows)) < len(windows):
        raise ValueError(
            "must be a rate such as 60/minute or 10/second;1000/day: at least 1, in different windows of 1 second to "
            "366 days, with numbers of at most 9 digits"
        )
    return value


def _path(value: Path) -> Path:
    """Return the absolute path of `value`, so that a child process in another directory finds the same file."""
    return value.expanduser().absolute()


def _readable_file(value: Path) -> Path:
    path = _path(value)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("the file does not exist or cannot be read")
    return path


def _root_path(value: str) -> str:
    """Return the path `value` without a slash at its end, such as `/media`; for the root, return an empty text."""
    path = value.removesuffix("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", path):
        raise ValueError("must be a path such as /media, without the segments . and ..")
    return path


def _absolute(value: Path) -> Path:
    """Return the absolute path of `value`, so that a child process in another directory finds the same directory."""
    return value.expanduser().absolute()


def _long_enough(value: SecretStr) -> SecretStr:
    if len(_item(value.get_secret_value())) < 16:
        raise ValueError("each item must have 16 characters or more")
    return value


Word: TypeAlias = Annotated[str, AfterValidator(_one_word)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Size: TypeAlias = Annotated[int, BeforeValidator(parse_size)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNever: TypeAlias = Annotated[Seconds, BeforeValidator(_never)]
Secrets: TypeAlias = Annotated[tuple[Annotated[SecretStr, AfterValidator(_long_enough)], ...], BeforeValidator(_split)]

Words: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_item)], ...], BeforeValidator(_split)]
SiteNames: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_item)], ...], BeforeValidator(_split_sites)]
Networks: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]
Origins: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
HostNames: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_split)]
Ports: TypeAlias = Annotated[frozenset[Port], BeforeValidator(_split)]

OptionalAddress: TypeAlias = Annotated[Annotated[str, AfterValidator(_address)] | None, BeforeValidator(_unset)]
OptionalDirectory: TypeAlias = Annotated[Annotated[Path, AfterValidator(_absolute)] | None, BeforeValidator(_unset)]
OptionalFile: TypeAlias = Annotated[Annotated[Path, AfterValidator(_readable_file)] | None, BeforeValidator(_unset)]
OptionalPath: TypeAlias = Annotated[Annotated[Path, AfterValidator(_path)] | None, BeforeValidator(_unset)]
OptionalProxy: TypeAlias = Annotated[Annotated[str, AfterValidator(_proxy)] | None, BeforeValidator(_unset)]
OptionalRate: TypeAlias = Annotated[Annotated[str, AfterValidator(check_rate)] | None, BeforeValidator(_unset)]
OptionalSeconds: TypeAlias = Annotated[PositiveSeconds | None, BeforeValidator(_unset)]
OptionalSize: TypeAlias = Annotated[Annotated[Size, Field(ge=1)] | None, BeforeValidator(_unset)]
OptionalUrl: TypeAlias = Annotated[Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_unset)]
OptionalWord: TypeAlias = Annotated[Word | None, BeforeValidator(_unset)]

RootPath: TypeAlias = Annotated[str, AfterValidator(_root_path)]

LogFormat: TypeAlias = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
LogLevel: TypeAlias = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]
MethodName: TypeAlias = Annotated[Method, BeforeValidator(_lower)]
ProfileName: TypeAlias = Annotated[Literal["auto", "small", "medium", "large"], BeforeValidator(_lower)]
