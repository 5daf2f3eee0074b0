"""Sessions of the web page: after `POST /login`, the browser sends a cookie in place of the API key. Pure.

The server stores nothing about a session. The cookie contains the name of the key, the first bytes of the key's SHA-256
and the time at which the session expires, signed with HMAC-SHA256. It does not contain the key itself. If the key is
revoked, the cookie becomes invalid, even if a new key gets the same name, because the new key has another SHA-256.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from serverpy.access.key import Key
from serverpy.access.keys import DIGEST_PREFIX

SESSION_SECONDS = 30 * 24 * 3600
_COOKIE = re.compile(rb"([A-Za-z0-9_-]{1,64})\.([0-9a-f]{16})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
"""Name of the key, DIGEST_PREFIX bytes of its SHA-256, time of expiry, and signature."""


@dataclass(frozen=True, slots=True)
class Session:
    """The content of a session cookie with a valid signature. `name` is the name of the API key, `digest` contains the
    first bytes of its SHA-256, and `expires` is in seconds since 1970."""

    name: str
    digest: bytes
    expires: int


def session_secret(link_secret: str) -> bytes:
    """Derive the secret of session cookies from a secret of LINK_SECRET. The secrets differ, so that a signature for a
    link is never valid for a session."""
    return hmac.digest(link_secret.encode(), b"serverpy session", "sha256")


def expiry_of(key: Key, now: float) -> int:
    """Return the time, in seconds since 1970, at which a session that begins at `now` expires: after SESSION_SECONDS
    or, if that is earlier, when the key expires."""
    end = int(now) + SESSION_SECONDS
    return end if key.expires is None else min(end, int(key.expires.timestamp()))


def sign(secret: bytes, key: Key, expires: int) -> str:
    """Return the value of a session cookie for `key`, signed with `secret`."""
    content = f"{key.name}.{key.digest[:DIGEST_PREFIX].hex()}.{expires}"
    return f"{content}.{_signature(secret, content.encode()).decode()}"


def read(secrets: Sequence[bytes], cookie: bytes, now: float) -> Session | None:
    """Return the session in a cookie that one of `secrets` has signed. Returns None if the cookie is malformed, was
    signed with another secret, or has expired at `now`."""
    match = _COOKIE.fullmatch(cookie)
    if match is None:
        return None
    content, _, signature = cookie.rpartition(b".")
    is_signed = [hmac.compare_digest(_signature(secret, content), signature) for secret in secrets]
    if not any(is_signed) or int(match[3]) <= now:
        return None
    return Session(match[1].decode(), bytes.fromhex(match[2].decode()), int(match[3]))


def _signature(secret: bytes, content: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(secret, content, "sha256")).rstrip(b"=")
