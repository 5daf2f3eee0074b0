"""The credentials in the header fields of a request. The functions are pure.

A client sends an API key as `Authorization: Bearer KEY`, as `Authorization: Api-Key KEY` (as clients of the downloader
cobalt do), or as the password of Basic authentication (media players: `http://x:KEY@host/`). A browser may send a
session cookie instead. The server accepts no key in the query of a URL, because URLs end up in logs and browser
histories.
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
MAX_SESSIONS = 4
"""Maximum number of session cookies of one request that the server checks, because each check takes CPU time."""
MALFORMED = "Malformed Authorization header: send `Bearer KEY`, `Api-Key KEY`, or Basic with the key as the password."


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a request: the secret of an API key, or the values of session cookies, of which one must be
    valid. `are_ambient` states whether a browser may have added them by itself, as it does with cookies and remembered
    Basic passwords."""

    secret: bytes | None = None
    sessions: tuple[bytes, ...] = ()
    are_ambient: bool = False


def credentials_of(fields: Fields) -> Credentials | None:
    """Return the credentials in the header fields of a request. `Authorization` takes precedence over session cookies.
    Returns None if the request has neither. Raises `KeyInvalid` if `Authorization` occurs more than once, is
    malformed, or has a scheme other than Bearer, Api-Key and Basic."""
    authorization: list[bytes] = []
    sessions: list[bytes] = []
    for name, value in fields:
        if name == b"authorization":
            authorization.append(value)
        elif name == b"cookie":
            sessions += _sessions(value)
    if authorization:
        return _shown(authorization)
    return Credentials(sessions=tuple(sessions[:MAX_SESSIONS]), are_ambient=True) if sessions else None


def is_secret(secret: bytes) -> bool:
    """Return whether `secret` has the form of an API key: 1 to 256 visible ASCII characters."""
    return _SECRET.fullmatch(secret) is not None


def _shown(values: list[bytes]) -> Credentials:
    if len(values) > 1:
        raise KeyInvalid("The request has more than one Authorization header: send one.")
    scheme, _, rest = values[0].strip().partition(b" ")
    kind, secret = scheme.lower(), rest.strip()
    if kind == b"basic":
        secret = _password(secret)
    elif kind not in (b"bearer", b"api-key"):
        raise KeyInvalid(MALFORMED)
    if not is_secret(secret):
        raise KeyInvalid(MALFORMED)
    return Credentials(secret=secret, are_ambient=kind == b"basic")


def _password(encoded: bytes) -> bytes:
    """Return the password in Basic credentials (RFC 7617). Raises `KeyInvalid` if they are not valid base64."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        raise KeyInvalid(MALFORMED) from None


def _sessions(cookies: bytes) -> list[bytes]:
    """Return the values of the session cookies in a Cookie field (RFC 6265 §4.2). A browser sends several cookies of
    one name if they were set for different paths or domains, for example before ROOT_PATH was changed."""
    if _COOKIE_START not in cookies:
        return []
    pairs = (pair.strip() for pair in cookies.split(b";"))
    return [pair[len(_COOKIE_START) :] for pair in pairs if pair.startswith(_COOKIE_START)]
