"""Sessions of the web page: a cookie that stands for a key after `POST /login`. Pure.

The server keeps nothing of a session. The cookie carries the name of the key, the beginning of the key's digest and the
end of the session, signed with HMAC-SHA256, but not the key itself. It dies with the key: a revoked key is unknown, and
another key of the same name has another digest.
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
"""Name, DIGEST_PREFIX bytes of the digest, end, and signature."""


@dataclass(frozen=True, slots=True)
class Session:
    """The content of a cookie whose signature is valid. `digest` is the beginning of the key's digest, `expires` is in
    seconds since 1970."""

    name: str
    digest: bytes
    expires: int


def session_secret(link_secret: str) -> bytes:
    """Derive the secret of sessions from one of LINK_SECRET, so that neither can stand for the other."""
    return hmac.digest(link_secret.encode(), b"serverpy session", "sha256")


def expiry_of(key: Key, now: float) -> int:
    """Return the end of a session that begins now: after SESSION_SECONDS, or with the key."""
    end = int(now) + SESSION_SECONDS
    return end if key.expires is None else min(end, int(key.expires.timestamp()))


def sign(secret: bytes, key: Key, expires: int) -> str:
    """Make the value of the cookie."""
    content = f"{key.name}.{key.digest[:DIGEST_PREFIX].hex()}.{expires}"
    return f"{content}.{_signature(secret, content.encode()).decode()}"


def read(secrets: Sequence[bytes], cookie: bytes, now: float) -> Session | None:
    """Return the session of a cookie that one of `secrets` has signed. Returns None if the cookie is malformed, forged
    or expired."""
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
