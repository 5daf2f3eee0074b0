"""The command `serverpy keys`, which adds, lists and revokes the API keys in API_KEYS_FILE. A running server applies
the changes without a restart."""

from __future__ import annotations

import json
import re
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
from serverpy.cli.terminal import PIPE_COLUMNS
from serverpy.errors import ConfigurationError
from serverpy.settings import load_settings
from serverpy.settings.types import format_size

Command = Callable[..., Any]


@click.group(
    "keys",
    help="Add, list and revoke API keys. A running server applies changes within a second. The option --api-keys-file, "
    "the variable SERVERPY_API_KEYS_FILE, or API_KEYS_FILE in serverpy.toml names the file with the keys.",
)
def command() -> None:
    """Run the subcommand that the arguments name."""


def _file_option(function: Command) -> Command:
    return click.option("--api-keys-file", help="File with the API keys.  [SERVERPY_API_KEYS_FILE; serverpy.toml]")(
        function
    )


def _json_option(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


@command.command(
    "add", help="Add an API key and print it. It cannot be shown again: the file contains only its SHA-256."
)
@click.argument("name")
@click.option(
    "--admin", is_flag=True, help="Allow the key to see and end all streams, and to read /health and /metrics."
)
@click.option("--expires", help="Date (00:00 UTC), or date and time, at which the key expires, for example 2027-01-31.")
@click.option("--rate", help="Maximum rate of page extractions, for example 100/hour; none for no limit.")
@click.option("--streams", type=int, help="Maximum number of open streams.")
@click.option("--bytes-per-day", help="Maximum number of bytes sent in a day (UTC), for example 10GiB.")
@click.option("--sites", help="yt-dlp extractors that the key may use, separated by commas.")
@click.option("--methods", help="Streaming methods that the key may use, separated by commas.")
@click.option("--networks", help="IP addresses or networks of the clients that may use the key, separated by commas.")
@_file_option
@_json_option
def add(name: str, api_keys_file: str | None, as_json: bool, **options: Any) -> None:
    path, secret = _path(api_keys_file), new_secret()
    try:
        key = key_of(name, _fields(secret, options))
    except ValueError as error:
        lines = (re.sub(r"^`(\w+)`", _option_of, line) for line in str(error).splitlines())
        raise click.UsageError("; ".join(f"key {name}: {line}" for line in lines)) from None
    if key.is_expired(datetime.now(UTC)):
        raise click.UsageError(f"key {name}: --expires must be in the future")
    shown = json.dumps({"key": secret, **_values(key)}) if as_json else secret
    key_file.add(path, lambda _keys: key, lambda: print(shown, flush=True))
    if not as_json:
        print(f"serverpy: this is the API key {key.name}; keep it, because it is not shown again", file=sys.stderr)


@command.command("list", help="List the API keys with their rights and limits, but without their secrets.")
@_file_option
@_json_option
def list_(api_keys_file: str | None, as_json: bool) -> None:
    keys = key_file.load(_path(api_keys_file))
    if as_json:
        print(json.dumps([_values(key) for key in keys]))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(_table(keys))


@command.command(
    "revoke", help="Remove the API key NAME. A running server ends the streams of the key within 10 seconds."
)
@click.argument("name")
@_file_option
@_json_option
def revoke(name: str, api_keys_file: str | None, as_json: bool) -> None:
    key_file.revoke(_path(api_keys_file), name)
    print(json.dumps({"name": name, "revoked": True}) if as_json else f"revoked the API key {name}")


def _path(given: str | None) -> Path:
    path = load_settings(api_keys_file=given).api_keys_file
    if path is None:
        raise ConfigurationError(
            "API_KEYS_FILE is not set: name the keys file, for example with --api-keys-file keys.toml"
        )
    return path


def _fields(secret: str, options: dict[str, Any]) -> dict[str, object]:
    """Return the command-line options and the SHA-256 of `secret` as the fields of a table in the keys file."""
    fields: dict[str, object] = {"sha256": digest_of(secret.encode()).hex()}
    for name, value in options.items():
        if value is None or value is False:
            continue
        if name in ("sites", "methods", "networks"):
            value = value.replace(",", " ").split()
        fields[name] = _moment(value) if name == "expires" else value
    return fields


def _option_of(field: re.Match[str]) -> str:
    """Return the command-line option that sets the matched field of the keys file."""
    return f"--{field[1].replace('_', '-')}"


def _moment(text: str) -> date:
    """Parse a date, or a date and time. Raises ValueError if the text is neither."""
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    raise ValueError("`expires` must be a date such as 2027-01-31, or a date and time such as 2027-01-31T18:00")


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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "expires", "rights", "limits"):
        table.add_column(name, overflow="fold")
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
    return limits or ["those of the server"]
