"""The command `serverpy keys`, which adds, lists and revokes the API keys in API_KEYS_FILE. A running server notices
changes by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from serverpy.access import key_file
from serverpy.access.key import Key
from serverpy.access.keys import Keys, digest_of, key_of, new_secret
from serverpy.errors import ConfigurationError
from serverpy.settings import load_settings
from serverpy.settings.types import format_size

Command = Callable[..., Any]


@click.group("keys", help="Add, list and revoke API keys. A running server notices changes within a second.")
def command() -> None:
    """Run the subcommand that the arguments name."""


def _file_option(function: Command) -> Command:
    return click.option("--api-keys-file", help="The file of the keys.  [SERVERPY_API_KEYS_FILE]")(function)


def _json_option(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


@command.command("add", help="Make a key, and print it. It is shown only now: the file has its SHA-256.")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Let it see and end all streams, and read /health and /metrics.")
@click.option("--expires", help="First day (00:00 UTC) or time at which it is no longer valid: 2027-01-31.")
@click.option("--rate", help="Extractions that it may start: 100/hour, or none for no limit.")
@click.option("--streams", type=int, help="Streams at once.")
@click.option("--bytes-per-day", help="Bytes a day (UTC): 10GiB.")
@click.option("--sites", help="Extractors, separated by commas.")
@click.option("--methods", help="Streaming methods, separated by commas.")
@click.option("--networks", help="Addresses or networks of its clients, separated by commas.")
@_file_option
@_json_option
def add(name: str, api_keys_file: str | None, as_json: bool, **options: Any) -> None:
    path, secret = _path(api_keys_file), new_secret()
    try:
        key = key_of(name, _fields(secret, options))
    except ValueError as error:
        raise click.UsageError("; ".join(f"key {name}: {line}" for line in str(error).splitlines())) from None
    key_file.add(path, lambda _keys: key)
    if as_json:
        print(json.dumps({"key": secret, **_values(key)}))
    else:
        print(secret)
        print(f"serverpy: this is the key {key.name}; it is not shown again", file=sys.stderr)


@command.command("list", help="List the keys, without their secrets.")
@_file_option
@_json_option
def list_(api_keys_file: str | None, as_json: bool) -> None:
    keys = key_file.load(_path(api_keys_file))
    if as_json:
        print(json.dumps([_values(key) for key in keys]))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(_table(keys))


@command.command("revoke", help="Remove a key. Its running streams are cut within 10 seconds.")
@click.argument("name")
@_file_option
@_json_option
def revoke(name: str, api_keys_file: str | None, as_json: bool) -> None:
    key_file.revoke(_path(api_keys_file), name)
    print(json.dumps({"name": name, "revoked": True}) if as_json else f"revoked the key {name}")


def _path(given: str | None) -> Path:
    path = load_settings(api_keys_file=given).api_keys_file
    if path is None:
        raise ConfigurationError("API_KEYS_FILE is not set: name the file, for example with --api-keys-file keys.toml")
    return path


def _fields(secret: str, options: dict[str, Any]) -> dict[str, object]:
    """Return the options as the fields of a table in the file."""
    fields: dict[str, object] = {"sha256": digest_of(secret.encode()).hex()}
    for name, value in options.items():
        if value is None or value is False:
            continue
        if name in ("sites", "methods", "networks"):
            value = value.replace(",", " ").split()
        fields[name] = _moment(value) if name == "expires" else value
    return fields


def _moment(text: str) -> date | str:
    """Parse a date or a time; returns other text unchanged, which the check of the field then refuses."""
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def _values(key: Key) -> dict[str, object]:
    return {
        "name": key.name,
        "admin": key.admin,
        "expires": None if key.expires is None else key.expires.isoformat(),
        "expired": key.is_expired(datetime.now(UTC)),
        "rate": key.rate,
        "streams": key.streams,
        "bytes_per_day": key.bytes_per_day,
        "sites": list(key.sites),
        "methods": list(key.methods),
        "networks": [str(network) for network in key.networks],
    }


def _table(keys: Keys) -> Table:
    table = Table("name", "expires", "may", "limits", box=box.SIMPLE_HEAD, pad_edge=False)
    for key in keys:
        end = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M %Z}"
        expired = " (expired)" if key.is_expired(datetime.now(UTC)) else ""
        table.add_row(key.name, end + expired, ", ".join(_rights(key)), ", ".join(_limits(key)))
    return table


def _rights(key: Key) -> list[str]:
    rights = ["admin"] if key.admin else []
    for title, items in (("sites", key.sites), ("methods", key.methods), ("from", key.networks)):
        if items:
            rights.append(f"{title} {' '.join(map(str, items))}")
    return rights or ["everything"]


def _limits(key: Key) -> list[str]:
    limits = [] if key.rate is None else [f"rate {key.rate}"]
    if key.streams is not None:
        limits.append(f"{key.streams} streams")
    if key.bytes_per_day is not None:
        limits.append(f"{format_size(key.bytes_per_day)} a day")
    return limits or ["the server's"]
