"""The credentials in the header fields of a request. Pure.

A key comes as `Authorization: Bearer KEY`, as `Authorization: Api-Key KEY` (cobalt's clients), as the password of Basic
authentication (players: `http://x:KEY@host/`), or by the cookie of a session. It never comes in a query, which ends up
in logs and histories.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from serverpy.access.clients import Fields
from serverpy.errors import KeyInvalid

COOKIE = "serverpy_session"
_COOKIE_START = f"{COOKIE}=".encode()
_SECRET = re.compile(rb"[\x21-\x7e]{1,256}")
MALFORMED = "The Authorization header is malformed: send `Bearer KEY`, `Api-Key KEY`, or the key as password of Basic."


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows: the secret of a key, or else the cookie of a session. `are_ambient` states whether a
    browser may have added them on its own (cookies, and the password of Basic, which it remembers)."""

    secret: bytes | None = None
    session: bytes | None = None
    are_ambient: bool = False


def credentials_of(fields: Fields) -> Credentials | None:
    """Return the credentials of a request, or None if it has none. `Authorization` takes precedence over the cookie.
    Raises `KeyInvalid` if `Authorization` is repeated or malformed, or has another scheme."""
    authorization: list[bytes] = []
    session = None
    for name, value in fields:
        if name == b"authorization":
            authorization.append(value)
        elif name == b"cookie" and session is None:
            session = _session(value)
    if authorization:
        return _shown(authorization)
    return None if session is None else Credentials(session=session, are_ambient=True)


def is_secret(secret: bytes) -> bool:
    """Return whether `secret` may be that of a key: visible ASCII of limited length."""
    return _SECRET.fullmatch(secret) is not None


def _shown(values: list[bytes]) -> Credentials:
    scheme, _, rest = values[0].strip().partition(b" ")
    kind, secret = scheme.lower(), rest.strip()
    if kind == b"basic":
        secret = _password(secret)
    elif kind not in (b"bearer", b"api-key"):
        raise KeyInvalid(MALFORMED)
    if len(values) > 1 or not is_secret(secret):
        raise KeyInvalid(MALFORMED)
    return Credentials(secret=secret, are_ambient=kind == b"basic")


def _password(encoded: bytes) -> bytes:
    """Return the password of Basic credentials (RFC 7617)."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        raise KeyInvalid(MALFORMED) from None


def _session(cookies: bytes) -> bytes | None:
    """Find the session in a Cookie field (RFC 6265 §4.2)."""
    if _COOKIE_START not in cookies:
        return None
    pairs = (pair.strip() for pair in cookies.split(b";"))
    return next((pair[len(_COOKIE_START) :] for pair in pairs if pair.startswith(_COOKIE_START)), None)
