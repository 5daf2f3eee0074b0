"""Tests of session cookies. A cookie is accepted only if it is unchanged and not expired."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from serverpy.access.key import Key
from serverpy.access.keys import DIGEST_PREFIX, digest_of
from serverpy.access.sessions import SESSION_SECONDS, Session, expiry_of, read, session_secret, sign

SECRET, OLDER = session_secret("correct horse battery staple"), session_secret("an older secret")
NOW = 1_800_000_000
KEY = Key(name="bob", digest=digest_of(b"bob"))
COOKIE = sign(SECRET, KEY, NOW + 60).encode()


def test_a_signed_session_cookie_is_valid_until_it_expires() -> None:
    session = Session("bob", KEY.digest[:DIGEST_PREFIX], NOW + 60)
    assert read([SECRET], COOKIE, NOW) == session
    assert read([SECRET], COOKIE, NOW + 59.9) == session
    assert read([SECRET], COOKIE, NOW + 60) is None


def test_a_session_cookie_is_valid_as_long_as_the_server_has_the_secret_that_signed_it() -> None:
    cookie = sign(OLDER, KEY, NOW + 60).encode()
    assert read([SECRET, OLDER], cookie, NOW) is not None
    assert read([SECRET], cookie, NOW) is None
    assert read([], cookie, NOW) is None


def test_a_session_cookie_with_a_changed_bit_or_length_is_invalid() -> None:
    for position in range(len(COOKIE)):
        for bit in range(8):
            changed = bytearray(COOKIE)
            changed[position] ^= 1 << bit
            assert read([SECRET], bytes(changed), NOW) is None
    for length in range(len(COOKIE)):
        assert read([SECRET], COOKIE[:length], NOW) is None
        assert read([SECRET], COOKIE[length + 1 :], NOW) is None
    assert read([SECRET], COOKIE + b"A", NOW) is None
    assert read([SECRET], COOKIE + b"\n", NOW) is None


def test_random_bytes_are_not_a_valid_session_cookie() -> None:
    randomness = random.Random(11)
    for _ in range(2000):
        assert read([SECRET], randomness.randbytes(randomness.randrange(120)), NOW) is None


@pytest.mark.parametrize("name", ["bob", "alice"])
def test_a_session_cookie_contains_the_name_and_the_digest_prefix_of_its_key_but_not_the_secret(name: str) -> None:
    key = Key(name=name, digest=digest_of(b"hush"))
    assert sign(SECRET, key, NOW).startswith(f"{name}.{key.digest[:DIGEST_PREFIX].hex()}.{NOW}.")


def test_a_session_expires_after_30_days_or_when_its_key_expires() -> None:
    assert expiry_of(KEY, NOW) == NOW + SESSION_SECONDS
    soon = Key(name="bob", digest=KEY.digest, expires=datetime.fromtimestamp(NOW + 5, UTC))
    assert expiry_of(soon, NOW) == NOW + 5


def test_the_secret_that_signs_sessions_differs_from_the_secret_that_signs_links() -> None:
    assert session_secret("a" * 16) not in (b"a" * 16, session_secret("b" * 16))
