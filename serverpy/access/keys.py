"""The keys of a server, and the formats in which a file holds them: our own in TOML, and cobalt's `keys.json`. Pure.

An error names the key and the field, but never a value: a value may be the secret of a key that somebody wrote in the
wrong place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time
from typing import Any, get_args

from serverpy.access.clients import Network, parse_networks
from serverpy.access.key import NO_LIMIT, Key
from serverpy.errors import ConfigurationError
from serverpy.options import StreamMethod
from serverpy.settings.types import check_rate, parse_size

DIGEST_PREFIX = 8
"""Bytes of a digest that tell two keys of the same name apart, in a session or a link."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_WORD = re.compile(r"[^\s,\x00-\x1f\x7f]+")
_METHODS = tuple(name for name in get_args(StreamMethod) if name != "auto")


class Keys:
    """The keys of a server, found by their secret or by their name. Immutable. `warnings` are about parts of the file
    that have no effect."""

    def __init__(self, keys: Iterable[Key] = (), warnings: Sequence[str] = ()) -> None:
        self.warnings = tuple(warnings)
        self._by_name = {key.name: key for key in keys}
        self._by_digest = {key.digest: key for key in self._by_name.values()}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, secret: bytes) -> Key | None:
        """Return the key with that secret. Keys are random, so the time of looking up a digest tells nothing of use."""
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def get(self, name: str) -> Key | None:
        return self._by_name.get(name)

    def living(self, name: str, digest: bytes, now: datetime) -> Key | None:
        """Return the key of that name if it is still the same key and has not expired. `digest` is its digest, or the
        first DIGEST_PREFIX bytes of it."""
        key = self._by_name.get(name)
        if key is None or len(digest) < DIGEST_PREFIX or not hmac.compare_digest(key.digest[: len(digest)], digest):
            return None
        return None if key.is_expired(now) else key


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    """Make the secret of a new key: 256 random bits, safe in URLs."""
    return secrets.token_urlsafe(32)


# Our format


def parse_keys(text: str) -> Keys:
    """Parse the content of a keys file. Raises `ConfigurationError`, with a line for each fault, if it is invalid."""
    if text.lstrip().startswith("{"):
        return parse_cobalt_keys(text)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not valid TOML: {error}") from None
    tables = content.pop("keys", {})
    if content:
        raise ConfigurationError("only tables [keys.NAME] are allowed")
    if not isinstance(tables, dict):
        raise ConfigurationError("`keys` must be a table of keys: [keys.NAME]")
    return _unique(_made((_title(name), key_of, name, table) for name, table in tables.items()))


def _title(name: str) -> str:
    return f"key {name}" if _NAME.fullmatch(name) else "a key"


def key_of(name: str, table: object) -> Key:
    """Make a key from the table [keys.NAME]. Raises ValueError, with a line for each fault, if it is invalid."""
    if not _NAME.fullmatch(name):
        raise ValueError("the name must have 1 to 64 letters, digits, - or _")
    if not isinstance(table, dict):
        raise ValueError("must be a table")
    values: dict[str, Any] = {}
    faults = [] if "sha256" in table else ["`sha256` is missing"]
    for field, value in table.items():
        if field not in _FIELDS:
            faults.append(f"`{field[:32]}` is not a field of a key")
            continue
        try:
            values["digest" if field == "sha256" else field] = _FIELDS[field](value)
        except ValueError as error:
            faults.append(f"`{field}` {error}")
    if faults:
        raise ValueError("\n".join(faults))
    return Key(name=name, **values)


def format_key(key: Key) -> str:
    """Return the key as a table of TOML, which `parse_keys` reads back as an equal key."""
    values: dict[str, object] = {"sha256": key.digest.hex()}
    for field in fields(Key):
        value = getattr(key, field.name)
        if field.name not in ("name", "digest") and value != field.default:
            values[field.name] = value
    return "\n".join([f"[keys.{key.name}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _digest(value: object) -> bytes:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("must be the SHA-256 of the key: 64 hexadecimal digits")
    return bytes.fromhex(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _expiry(value: object) -> datetime:
    """Return the first moment at which the key has expired. A date means its beginning, and a time without a zone is in
    UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise ValueError("must be a date such as 2027-01-31, or a date and time, without quotes")


def _rate(value: object) -> str:
    if value == NO_LIMIT:
        return NO_LIMIT
    if not isinstance(value, str):
        raise ValueError("must be a rate such as 100/hour, or none")
    return check_rate(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number from 1")
    return value


def _bytes(value: object) -> int:
    return _count(parse_size(value))


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be an array that is not empty; leave the field out to allow all")
    if not all(isinstance(item, str) and _WORD.fullmatch(item) for item in value):
        raise ValueError("must be an array of words")
    return tuple(value)


def _methods(value: object) -> tuple[str, ...]:
    words = _words(value)
    if not set(words) <= set(_METHODS):
        raise ValueError(f"must be an array of {', '.join(_METHODS)}")
    return words


def _networks(value: object) -> tuple[Network, ...]:
    try:
        return parse_networks(_words(value))
    except ValueError:
        raise ValueError("must be an array of addresses or networks such as 10.0.0.0/8") from None


_FIELDS: Mapping[str, Callable[[Any], object]] = {
    "sha256": _digest,
    "admin": _boolean,
    "expires": _expiry,
    "rate": _rate,
    "streams": _count,
    "bytes_per_day": _bytes,
    "sites": _words,
    "methods": _methods,
    "networks": _networks,
}


# cobalt's format

_COBALT_SITES = {"bsky": "bluesky", "ok": "odnoklassniki"}
"""Names of services in cobalt that are not those of yt-dlp's extractors."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_COBALT_FIELDS = frozenset({"name", "limit", "ips", "userAgents", "allowedServices"})


def parse_cobalt_keys(text: str) -> Keys:
    """Parse cobalt's `keys.json`: an object from the UUID that is the key to its rights. `limit` is per minute, and
    `userAgents` has no effect. Raises `ConfigurationError` if the content is invalid."""
    try:
        content = json.loads(text)
    except ValueError:
        raise ConfigurationError("not valid JSON") from None
    if not isinstance(content, dict):
        raise ConfigurationError("must be an object with a member for each key")
    keys = _made((f"key {number}", _cobalt_key, *item) for number, item in enumerate(content.items(), 1))
    ignored = [key.name for key, rights in zip(keys, content.values(), strict=True) if "userAgents" in rights]
    return _unique(_with_own_names(keys), [f"key {name}: `userAgents` has no effect" for name in ignored])


def _cobalt_key(secret: str, rights: object) -> Key:
    if not _UUID.fullmatch(secret):
        raise ValueError("its name must be a UUID in lower case")
    if not isinstance(rights, dict):
        raise ValueError("must be an object")
    if not rights.keys() <= _COBALT_FIELDS:
        raise ValueError(f"only {', '.join(sorted(_COBALT_FIELDS))} are allowed")
    name = rights.get("name", "")
    if not isinstance(name, str):
        raise ValueError("`name` must be text")
    limit, services, ips = (rights.get(field) for field in ("limit", "allowedServices", "ips"))
    return Key(
        name=re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:48].strip("-"),
        digest=digest_of(secret.encode()),
        rate=_cobalt_rate(limit),
        sites=() if services in (None, "all") else tuple(_COBALT_SITES.get(site, site) for site in _words(services)),
        networks=() if ips is None else _networks(ips),
    )


def _cobalt_rate(limit: object) -> str | None:
    if limit is None:
        return None
    if limit == "unlimited":
        return NO_LIMIT
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 1 <= limit < 1e9:
        raise ValueError("`limit` must be a number from 1, or unlimited")
    return f"{int(limit)}/minute"


def _with_own_names(keys: Sequence[Key]) -> list[Key]:
    """Give names to the keys without one, and different names to those that share one."""
    uses = Counter(key.name for key in keys)
    shared = {name for name, count in uses.items() if count > 1 or not name}
    return [
        replace(key, name=f"{key.name or 'key'}-{key.digest.hex()[:8]}") if key.name in shared else key for key in keys
    ]


# Both formats


def _made(parts: Iterable[tuple[str, Callable[[str, object], Key], str, object]]) -> list[Key]:
    """Make every key. Raises `ConfigurationError`, with a line for each fault of each key, if one is invalid."""
    keys: list[Key] = []
    faults: list[str] = []
    for title, make, name, content in parts:
        try:
            keys.append(make(name, content))
        except ValueError as error:
            faults += [f"{title}: {line}" for line in str(error).splitlines()]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return keys


def _unique(keys: Sequence[Key], warnings: Sequence[str] = ()) -> Keys:
    """Raises `ConfigurationError` if two keys have the same secret."""
    owners: dict[bytes, str] = {}
    for key in keys:
        if key.digest in owners:
            raise ConfigurationError(f"the keys {owners[key.digest]} and {key.name} are the same key")
        owners[key.digest] = key.name
    return Keys(keys, warnings)
