"""Tests of the credentials in header fields: which forms of credentials the server accepts, and which it refuses."""

from __future__ import annotations

import base64

import pytest

from serverpy.access.credentials import MAX_SESSIONS, Credentials, credentials_of, is_secret
from serverpy.errors import KeyInvalid

KEY = b"wekibC8900KKKeQD2yJbTK3Fhh8Ji-9N3oPfSFd9vAQ"


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer " + KEY,
        b"bearer " + KEY,
        b"BEARER   " + KEY,
        b" Bearer " + KEY + b" ",
        b"Api-Key " + KEY,
        b"api-key " + KEY,
    ],
)
def test_an_api_key_can_be_sent_with_the_schemes_bearer_and_api_key(value: bytes) -> None:
    assert credentials_of([(b"authorization", value)]) == Credentials(secret=KEY)


@pytest.mark.parametrize("user", [b"", b"x", b"key", "ä".encode()])
def test_an_api_key_can_be_sent_as_the_basic_password_with_any_user_name(user: bytes) -> None:
    found = credentials_of([(b"authorization", basic(user + b":" + KEY))])
    assert found == Credentials(secret=KEY, are_ambient=True)


def test_the_password_of_basic_credentials_may_contain_colons() -> None:
    found = credentials_of([(b"authorization", basic(b"x:a:b"))])
    assert found is not None
    assert found.secret == b"a:b"


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", KEY, b"Bearer", b"Bearer ", b"Basic", b"Basic ", b"Digest x", b"Negotiate abc", b"Api-Key"),
        *(b"Bearer a b", b"Bearer \xff", b"Bearer " + 257 * b"a", b"Bearer\t" + KEY, b"Bearer," + KEY),
        *(b"Basic " + KEY, b"Basic !!!!", basic(b"no colon"), basic(b"x:"), basic(b"x:a b"), basic(b"x:\xff")),
        basic(b"x:" + KEY)[:-1],
    ],
)
def test_a_malformed_authorization_field_raises_key_invalid(value: bytes) -> None:
    with pytest.raises(KeyInvalid):
        credentials_of([(b"authorization", value)])


def test_two_authorization_fields_raise_key_invalid() -> None:
    field = (b"authorization", b"Bearer " + KEY)
    with pytest.raises(KeyInvalid, match="more than one Authorization"):
        credentials_of([field, field])


@pytest.mark.parametrize(
    ("cookie", "session"),
    [
        (b"serverpy_session=abc", b"abc"),
        (b"a=b; serverpy_session=abc; c=d", b"abc"),
        (b"a=b;serverpy_session=abc", b"abc"),
        (b"serverpy_session=", b""),
        (b"xserverpy_session=abc", None),
        (b"a=serverpy_session=abc", None),
        (b"a=b", None),
        (b"", None),
    ],
)
def test_the_session_is_the_value_of_the_cookie_named_serverpy_session(cookie: bytes, session: bytes | None) -> None:
    found = credentials_of([(b"cookie", cookie)])
    assert found == (None if session is None else Credentials(sessions=(session,), are_ambient=True))


@pytest.mark.parametrize(
    "cookies",
    [
        [b"serverpy_session=a; serverpy_session=b"],
        [b"serverpy_session=a;x=y;serverpy_session=b"],
        [b"serverpy_session=a", b"serverpy_session=b"],
    ],
)
def test_several_session_cookies_are_returned_in_the_order_of_the_request(cookies: list[bytes]) -> None:
    found = credentials_of([(b"cookie", value) for value in cookies])
    assert found == Credentials(sessions=(b"a", b"b"), are_ambient=True)


def test_the_number_of_session_cookies_that_are_returned_is_limited() -> None:
    found = credentials_of([(b"cookie", b";".join([b"serverpy_session=a"] * 1000))])
    assert found is not None
    assert len(found.sessions) == MAX_SESSIONS


def test_an_api_key_takes_precedence_over_a_session_cookie() -> None:
    fields = [(b"cookie", b"serverpy_session=abc"), (b"authorization", b"Bearer " + KEY)]
    assert credentials_of(fields) == Credentials(secret=KEY)


def test_a_request_with_neither_an_authorization_field_nor_a_cookie_has_no_credentials() -> None:
    assert credentials_of([(b"host", b"a")]) is None


def test_a_secret_consists_of_1_to_256_visible_ascii_characters() -> None:
    assert is_secret(KEY)
    assert not any(map(is_secret, (b"", b"a b", b"a\n", b"\x7f", "ä".encode(), 257 * b"a")))
