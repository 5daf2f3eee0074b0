"""The API keys of a server, and the two formats of the file that lists them: ServerPY's own format, which is TOML, and
cobalt's `keys.json`. The functions are pure.

An error message never contains a value from the file, because somebody may have written a secret into the wrong field.
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
from typing import Any, TypeVar, get_args

from serverpy.access.clients import Network, parse_networks
from serverpy.access.key import NO_LIMIT, Key
from serverpy.errors import ConfigurationError
from serverpy.options import StreamMethod
from serverpy.settings.types import check_rate, parse_size

T = TypeVar("T")

DIGEST_PREFIX = 8
"""Number of bytes of a key's SHA-256 that a session cookie or a signed link contains. These bytes distinguish the key
from a later key with the same name."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_WORD = re.compile(r"[^\s,\x00-\x1f\x7f]+")
_METHODS = tuple(name for name in get_args(StreamMethod) if name != "auto")


class Keys:
    """The API keys of a server, by secret and by name. Immutable. Each of the `warnings` names a part of the keys file
    that has no effect."""

    def __init__(self, keys: Iterable[Key] = (), warnings: Sequence[str] = ()) -> None:
        self.warnings = tuple(warnings)
        self._by_name = {key.name: key for key in keys}
        self._by_digest = {key.digest: key for key in self._by_name.values()}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, secret: bytes) -> Key | None:
        """Return the key with this secret. Returns None if no key has it. The duration of the lookup may reveal a part
        of a digest, but nobody can derive a random secret of 256 bits from its digest."""
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def get(self, name: str) -> Key | None:
        return self._by_name.get(name)

    def living(self, name: str, digest: bytes, now: datetime) -> Key | None:
        """Return the key with this name and `digest`, which is the SHA-256 of its secret, or at least the first
        DIGEST_PREFIX bytes of it. Returns None if there is no such key, or if it has expired at `now`."""
        key = self._by_name.get(name)
        if key is None or len(digest) < DIGEST_PREFIX or not hmac.compare_digest(key.digest[: len(digest)], digest):
            return None
        return None if key.is_expired(now) else key


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    """Return a new secret for an API key: 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


# ServerPY's own format of the keys file


def parse_keys(text: str) -> Keys:
    """Parse the content of a keys file, in ServerPY's TOML format or in cobalt's JSON format. Raises
    `ConfigurationError`, with one line for each fault, if the content is invalid."""
    if text.lstrip().startswith("{"):
        return parse_cobalt_keys(text)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not valid TOML: {error}") from None
    except ValueError:  # `int`, which `tomllib` calls, raises this error
        raise ConfigurationError("not valid TOML: a number has too many digits") from None
    tables = content.pop("keys", {})
    if content:
        raise ConfigurationError("only tables [keys.NAME] are allowed: remove all other entries")
    if not isinstance(tables, dict):
        raise ConfigurationError("`keys` must be a table with one table [keys.NAME] for each API key")
    return _unique(_made((_title(name), key_of, name, table) for name, table in tables.items()))


def _title(name: str) -> str:
    return f"key {name}" if _NAME.fullmatch(name) else "a key"


def key_of(name: str, table: object) -> Key:
    """Return the API key that the TOML table [keys.NAME] describes. Raises ValueError, with one line for each fault, if
    the name or the table is invalid."""
    if not _NAME.fullmatch(name):
        raise ValueError("the name must have 1 to 64 characters: letters, digits, - and _")
    if not isinstance(table, dict):
        raise ValueError("must be a TOML table")
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
    """Return the key as the text of a TOML table. `parse_keys` parses the text back to an equal key."""
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
    """Return the time at which the API key expires. A date without a time means 00:00 UTC, and a time without a zone is
    in UTC. Raises ValueError if `value` is not a date, or a date and time."""
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
        raise ValueError("must be a whole number of at least 1")
    return value


def _bytes(value: object) -> int:
    return _count(parse_size(value))


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and not value:
        raise ValueError("must have at least one item; leave it out to allow all")
    if not isinstance(value, list) or not all(isinstance(item, str) and _WORD.fullmatch(item) for item in value):
        raise ValueError("must be an array of strings without spaces and commas")
    return tuple(value)


def _sites(value: object) -> tuple[str, ...]:
    words = _words(value)
    if "all" in map(str.lower, words):
        raise ValueError("must contain names of yt-dlp extractors; leave it out to allow all sites")
    return words


def _methods(value: object) -> tuple[str, ...]:
    words = _words(value)
    if not set(words) <= set(_METHODS):
        raise ValueError(f"must contain only streaming methods: {', '.join(_METHODS)}")
    return words


def _networks(value: object) -> tuple[Network, ...]:
    try:
        return parse_networks(_words(value))
    except ValueError:
        raise ValueError("must contain only IP addresses, or networks such as 10.0.0.0/8") from None


_FIELDS: Mapping[str, Callable[[Any], object]] = {
    "sha256": _digest,
    "admin": _boolean,
    "expires": _expiry,
    "rate": _rate,
    "streams": _count,
    "bytes_per_day": _bytes,
    "sites": _sites,
    "methods": _methods,
    "networks": _networks,
}


# cobalt's format of the keys file

_COBALT_SITES = {"bsky": "bluesky", "ok": "odnoklassniki"}
"""The services of cobalt whose names differ from the names of their yt-dlp extractors, with the extractor names."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_COBALT_FIELDS = frozenset({"name", "limit", "ips", "userAgents", "allowedServices"})


def parse_cobalt_keys(text: str) -> Keys:
    """Parse cobalt's `keys.json`: a JSON object in which the name of each member is an API key (a UUID), and the value
    is an object with the rights of that key. `limit` is the number of extractions per minute; `userAgents` has no
    effect. Raises `ConfigurationError` if the content is invalid."""
    try:
        content = json.loads(text)
    except ValueError:
        raise ConfigurationError("not valid JSON") from None
    if not isinstance(content, dict):
        raise ConfigurationError("must be a JSON object with one member for each API key")
    keys = _made((f"key {number}", _cobalt_key, *item) for number, item in enumerate(content.items(), 1))
    ignored = [key.name for key, rights in zip(keys, content.values(), strict=True) if "userAgents" in rights]
    return _unique(
        _with_own_names(keys),
        [f"key {name}: `userAgents` has no effect, because ServerPY does not check User-Agent" for name in ignored],
    )


def _cobalt_key(secret: str, rights: object) -> Key:
    if not _UUID.fullmatch(secret):
        raise ValueError("the name of the member must be a UUID in lower case")
    if not isinstance(rights, dict):
        raise ValueError("must be a JSON object")
    if not rights.keys() <= _COBALT_FIELDS:
        raise ValueError(f"has an unknown field: only {', '.join(sorted(_COBALT_FIELDS))} are allowed")
    name = rights.get("name", "")
    if not isinstance(name, str):
        raise ValueError("`name` must be a string")
    limit, services, ips = (rights.get(field) for field in ("limit", "allowedServices", "ips"))
    return Key(
        name=re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:48].strip("-"),
        digest=digest_of(secret.encode()),
        rate=_cobalt_rate(limit),
        sites=() if services in (None, "all") else _cobalt_sites(services),
        networks=() if ips is None else _cobalt_field("ips", _networks, ips),
    )


def _cobalt_sites(services: object) -> tuple[str, ...]:
    names = _cobalt_field("allowedServices", _words, services)
    return tuple(_COBALT_SITES.get(name, name) for name in names)


def _cobalt_field(name: str, parse: Callable[[object], T], value: object) -> T:
    """Parse the value of a field. Raises ValueError, with the name of the field, if the value is invalid."""
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"`{name}` {error}") from None


def _cobalt_rate(limit: object) -> str | None:
    if limit is None:
        return None
    if limit == "unlimited":
        return NO_LIMIT
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 1 <= limit < 1e9:
        raise ValueError("`limit` must be a number of at least 1, or unlimited")
    return f"{int(limit)}/minute"


def _with_own_names(keys: Sequence[Key]) -> list[Key]:
    """Return the keys with unique names. A key without a name, or with the name of another key, gets a name that ends
    in the first digits of its digest."""
    uses = Counter(key.name for key in keys)
    shared = {name for name, count in uses.items() if count > 1 or not name}
    return [
        replace(key, name=f"{key.name or 'key'}-{key.digest.hex()[:8]}") if key.name in shared else key for key in keys
    ]


# Functions for both formats of the keys file


def _made(parts: Iterable[tuple[str, Callable[[str, object], Key], str, object]]) -> list[Key]:
    """Return the API keys that `parts` describes. For each key, it contains the title of the key in error messages, a
    function that makes the key, and the two arguments of that function. Raises `ConfigurationError`, with one line for
    each fault, if a key is invalid."""
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
    """Return the API keys and the warnings as `Keys`. Raises `ConfigurationError` if two keys have the same digest."""
    owners: dict[bytes, str] = {}
    for key in keys:
        if key.digest in owners:
            raise ConfigurationError(
                f"the keys {owners[key.digest]} and {key.name} have the same SHA-256: remove one of them"
            )
        owners[key.digest] = key.name
    return Keys(keys, warnings)
