"""The commands `serverpy links sign` and `serverpy links verify`, which sign and check links without a running server.
They need the same LINK_SECRET or STATE_DIR as the server."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from serverpy.access.clients import parse_address
from serverpy.cli.options import named_options
from serverpy.cli.terminal import one_line, page_url
from serverpy.errors import ConfigurationError, InvalidParameter, UnsupportedConversion
from serverpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from serverpy.access.links import Link, LinkKey

SETTINGS = ("public_url", "root_path", "host", "port", "link_secret", "link_ttl", "state_dir")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@click.group(
    "links", help="Sign links that open media without an API key until they expire, and show what a link allows."
)
def command() -> None:
    """Run the subcommand that the arguments name."""


def _parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each parameter of `POST /links` except `url` to a command."""
    from serverpy.api.link_query import LinkQuery

    for name, field in reversed(LinkQuery.model_fields.items()):
        if name != "url":
            is_flag = field.annotation is bool
            names = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
            command = click.option(*names, name, is_flag=is_flag, default=None, help=field.description)(command)
    return command


@command.command("sign", help="Print a signed link to the media of the page at URL.")
@click.argument("url", callback=lambda _context, _argument, value: page_url(value))
@_parameters
@_JSON
@named_options(*SETTINGS)
def sign_command(url: str, as_json: bool, **options: Any) -> None:
    from serverpy.access.link_secrets import load_or_make
    from serverpy.access.links import sign
    from serverpy.api.link_query import link_path, make_link, parse_link_query

    settings = load_settings(**{name: options.pop(name) for name in SETTINGS})
    try:
        query = parse_link_query({"url": url, **{name: value for name, value in options.items() if value is not None}})
        link = make_link(query, now=time.time(), ttl=settings.link_ttl, by_operator=True)
    except (InvalidParameter, UnsupportedConversion) as error:
        raise click.UsageError(str(error)) from None
    address = _base(settings) + link_path(link, sign(link, _keys(settings, load_or_make)[0]))
    print(json.dumps({"url": address, "expires": _date(link.expires)}) if as_json else address)


@command.command(
    "verify", help="Show what the signed LINK (or its token alone) allows. Exits with status 1 if the link is invalid."
)
@click.argument("link")
@_JSON
@named_options("link_secret", "state_dir")
def verify_command(link: str, as_json: bool, **options: Any) -> None:
    from serverpy.access.link_secrets import load
    from serverpy.access.links import SKEW_SECONDS, open_link

    now = time.time()
    opened = open_link(_token(link), _keys(load_settings(**options), load), now)
    found = {name: value for name, value in _described(opened, now).items() if value is not None}
    if "expired" in found:
        left = opened.expires + SKEW_SECONDS - now
        print(f"serverpy: the link has expired; a server accepts it for another {left:.0f} seconds", file=sys.stderr)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.writelines(
            f"{name}: {one_line(value) if isinstance(value, str) else json.dumps(value)}\n"
            for name, value in found.items()
        )


def _described(link: Link, now: float) -> dict[str, Any]:
    """Return the content of a link as a dictionary, whose keys are the parameter names of `POST /links`, `expires`,
    `expired` and `key`. `now`, in seconds since the epoch, decides whether the link has expired."""
    return {
        "route": link.route,
        "url": link.url,
        **link.params,
        "expires": _date(link.expires),
        "expired": True if link.expires <= now else None,
        "key": link.key or None,
        "network": None if link.network is None else str(link.network),
        "uses": link.uses,
        "bytes": link.max_bytes,
    }


def _keys(settings: Settings, kept: Callable[[Path], tuple[str, ...]]) -> tuple[LinkKey, ...]:
    """Return the keys for signed links. They are derived from LINK_SECRET or, if it is not set, from the secrets that
    `kept` returns for the directory STATE_DIR. Raises `ConfigurationError` if there are no secrets."""
    from serverpy.access.links import derive

    secrets = tuple(each.get_secret_value() for each in settings.link_secret)
    try:
        if not secrets and settings.state_dir is not None:
            secrets = kept(settings.state_dir)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"signed links need LINK_SECRET, because STATE_DIR cannot be used: {error}") from None
    if not secrets:
        raise ConfigurationError("signed links need LINK_SECRET or STATE_DIR: set one of them")
    return tuple(map(derive, secrets))


def _base(settings: Settings) -> str:
    """Return the URL with which signed links begin. Raises `ConfigurationError` if the settings do not say at which
    address and port clients reach the server."""
    from serverpy.api.addresses import public_base

    if settings.public_url is not None:
        return public_base(settings.public_url, settings.root_path)
    if settings.port == 0 or _is_wildcard(settings.host):
        raise ConfigurationError(
            f"HOST {settings.host} and PORT {settings.port} are not an address that clients can reach: set PUBLIC_URL"
        )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}{settings.root_path}"


def _is_wildcard(host: str) -> bool:
    """Return whether HOST stands for all addresses of the machine, also in a short form such as `0`."""
    address = parse_address(host)
    if address is not None:
        return address.is_unspecified
    try:
        return not any(socket.inet_aton(host))
    except OSError:
        return False


def _token(link: str) -> str:
    """Return the token in a link: the path segment after `/s/`. Returns `link` unchanged if `/s/` is not in its
    path."""
    _, found, rest = urlsplit(link).path.rpartition("/s/")
    return rest.partition("/")[0] if found else link


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
