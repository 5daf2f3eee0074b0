"""The checks of a request's Host field: whether the field is valid (RFC 9112 §3.2), and whether this server answers for
it. Pure functions. A page in a browser can let its own host name resolve to the address of this server (DNS rebinding).
The browser then treats this server as the page's own, but still sends the page's host name as Host. IP literals and
`localhost` are safe, because no attacker can make them resolve to another address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?")
_WITHOUT_HOST = ("0.9", "1.0")
"""Versions of HTTP in which the Host field is optional."""


def host_fault(fields: Sequence[bytes], http_version: str) -> str | None:
    """Return a sentence that describes the error in the Host fields of a request. Returns None if the fields are
    valid."""
    if len(fields) > 1:
        return "The request has more than one Host header."
    if not fields:
        return None if http_version in _WITHOUT_HOST else "The request has no Host header."
    return "The Host header is malformed." if host_of(fields[0]) is None else None


def host_of(field: bytes) -> str | None:
    """Return the host that a Host field names, in lower case, without the port and the final dot of a name. Returns
    None if the field is malformed or empty."""
    match = _HOST.fullmatch(field.decode("latin-1"))
    if match is None or int(match[2] or 0) > 65535:
        return None
    host = match[1].lower().removesuffix(".")
    if not host or (host.startswith("[") and not is_literal(host)):
        return None
    return host


def is_literal(host: str) -> bool:
    """Return whether `host` is an IPv4 address, or an IPv6 address in brackets."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_served(host: str, names: Collection[str]) -> bool:
    """Return whether the server answers for `host`: an IP literal, `localhost`, or one of `names`."""
    return host == "localhost" or host in names or is_literal(host)
