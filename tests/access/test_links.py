"""Tests of the tokens of signed links. A token is valid only if it is unchanged, signed with the right secret, and not
expired."""

from __future__ import annotations

import base64
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.access.links import (
    MAX_TOKEN_CHARACTERS,
    SKEW_SECONDS,
    Link,
    LinkKey,
    Value,
    derive,
    open_link,
    pack_network,
    sign,
    unpack_network,
)
from serverpy.errors import InvalidParameter, LinkExpired, LinkInvalid

KEY, OTHER = derive("a secret of the server"), derive("the secret of another server")
NOW = 1_800_000_000
LINK = Link(
    url="https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf",
    expires=NOW + 3600,
    id=b"12345678",
    params={"to": "mp4", "item": 3, "download": True, "start": -30.5},
    key="family",
    digest=b"abcdefgh",
    packed_network=pack_network("2001:db8::1"),
    uses=3,
    max_bytes=10 << 30,
)
ALPHABET = string.ascii_letters + string.digits + "-_"


def opens(token: str) -> bool:
    try:
        open_link(token, (KEY, OTHER), NOW)
    except LinkInvalid:
        return False
    return True


def test_open_link_returns_the_link_that_was_signed() -> None:
    assert open_link(sign(LINK, KEY), (KEY,), NOW) == LINK
    least = Link(url="http://a/", expires=NOW + 1, id=b"")
    assert open_link(sign(least, KEY), (OTHER, KEY), NOW) == least


def test_a_token_that_an_earlier_version_of_serverpy_issued_is_still_valid() -> None:
    """If the format of tokens changed, all existing links would become invalid."""
    token = "FVkpBj2s93m6u-SDnwt_NgdTOUprOHSNlz2HnCs__inBO62HpzmopRcCdRDoDGXqbmo2Nmn518AWWIcNy8ikO6Cb_UpR-4Nn6XY"
    expected = Link(
        url="https://www.youtube.com/watch?v=dQw4w9WgXcQ", expires=NOW, id=b"12345678", params={"to": "mp4"}, uses=3
    )
    assert open_link(token, (KEY,), NOW) == expected


def test_a_link_is_valid_if_any_of_the_secrets_signed_it() -> None:
    token = sign(LINK, KEY)
    assert open_link(token, (OTHER, KEY), NOW) == LINK
    for keys in ((), (OTHER,)):
        with pytest.raises(LinkInvalid):
            open_link(token, keys, NOW)


def test_a_link_is_invalid_if_another_secret_with_the_same_key_id_signed_it() -> None:
    double = LinkKey(KEY.id, OTHER.mac, OTHER.cipher)
    with pytest.raises(LinkInvalid):
        open_link(sign(LINK, KEY), (double,), NOW)
    assert open_link(sign(LINK, KEY), (double, KEY), NOW) == LINK


def test_a_link_is_valid_until_60_seconds_after_its_expiry() -> None:
    token = sign(LINK, KEY)
    assert open_link(token, (KEY,), LINK.expires + SKEW_SECONDS - 0.001) == LINK
    with pytest.raises(LinkExpired):
        open_link(token, (KEY,), LINK.expires + SKEW_SECONDS)
    assert open_link(token, (KEY,), NOW - 10 * 365 * 86400) == LINK  # the clock of this server may be slow


def test_a_token_with_one_changed_bit_or_character_is_invalid() -> None:
    token = sign(LINK, KEY)
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert not opens(base64.urlsafe_b64encode(changed).rstrip(b"=").decode())
    chance = random.Random(7)
    for place in range(len(token)):
        others = ALPHABET.replace(token[place], "")
        for character in others if place == len(token) - 1 else chance.sample(others, 3):
            assert not opens(token[:place] + character + token[place + 1 :])


def test_a_truncated_or_extended_or_differently_encoded_token_is_invalid() -> None:
    token = sign(LINK, KEY)
    assert opens(token)
    assert not any(opens(token[:length]) for length in range(len(token)))
    assert not any(opens(token[start:]) for start in range(1, len(token)))
    standard = token.replace("-", "+").replace("_", "/")
    for changed in (f"{token}=", f"{token}A", f" {token}", f"{token}\n", f"{token[:9]}!{token[9:]}", token.swapcase()):
        assert not opens(changed)
    assert standard == token or not opens(standard)
    assert not opens("ä" * 100)
    assert not opens("A" * (MAX_TOKEN_CHARACTERS + 4))


def test_none_of_ten_thousand_random_and_mutated_tokens_is_valid() -> None:
    chance = random.Random(11)
    tokens = [sign(LINK, KEY), sign(Link(url="http://a/", expires=NOW + 1, id=b"x"), OTHER)]
    for number in range(10_000):
        token = list(chance.choice(tokens))
        if number % 2:
            token = chance.choices(ALPHABET, k=chance.randrange(400))
        else:
            for _ in range(chance.randrange(1, 9)):
                place, old = chance.randrange(len(token)), token
                token = [*old[:place], chance.choice(ALPHABET), *old[place + chance.randrange(3) :]]
        assert not opens("".join(token)) or "".join(token) in tokens


@given(st.text(max_size=200) | st.text(ALPHABET, max_size=200))
def test_a_text_that_is_not_a_token_raises_link_invalid(text: str) -> None:
    assert not opens(text)


def test_a_token_contains_neither_the_page_url_nor_the_name_of_the_api_key_nor_the_secret_keys() -> None:
    token = sign(LINK, KEY)
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert not any(word in data for word in (b"youtube", b"watch", b"family", b"abcdefgh"))
    assert "secret" not in repr(KEY)
    assert not any(key in data or repr(key) in repr(KEY) for key in (KEY.mac, KEY.cipher))


OF_FILE: dict[str, Value] = {
    "to": "mp4", "method": "relay", "item": 12, "download": True, "filename": "A film with a name of forty letters.mp4",
}  # fmt: skip
BY_SELECTOR: dict[str, Value] = {"format": "bv*[height<=720][ext=mp4]+ba[ext=m4a]/b[height<=720]"}
BY_DEFAULT: dict[str, Value] = {
    "height": 1080, "codec": "hevc", "lang": "zh-Hant-TW", "max_size": 1_234_567_890, "start": -30.0,
}  # fmt: skip


@pytest.mark.parametrize("chosen", [BY_SELECTOR, BY_DEFAULT])
@pytest.mark.parametrize("url", [LINK.url, "https://x.example/", f"https://x.example/{'a7-' * 100}"])
def test_a_token_has_at_most_300_characters_besides_the_page_url(url: str, chosen: dict[str, Value]) -> None:
    """The URL of the page takes up four thirds of its length in the token, because the token is base64."""
    full = Link(
        url=url,
        expires=NOW,
        id=b"12345678",
        params=chosen | OF_FILE,
        key="a-key-with-a-long-name",
        digest=b"abcdefgh",
        packed_network=pack_network("2001:db8::1"),
        uses=1000,
        max_bytes=1 << 40,
    )
    assert len(sign(full, KEY)) - len(url) * 4 / 3 <= 300
    plain = Link(url=url, expires=NOW, id=b"12345678", key="family", digest=b"abcdefgh")
    assert len(sign(plain, KEY)) - len(url) <= 120 + len(url) / 3


def test_a_repetitive_page_url_is_compressed_in_the_token() -> None:
    long = Link(url="https://x.example/" + "part/" * 500, expires=NOW + 1, id=b"x")
    token = sign(long, KEY)
    assert len(token) < 300
    assert open_link(token, (KEY,), NOW) == long


def test_signing_a_link_with_parameters_that_are_too_long_raises_invalid_parameter() -> None:
    selector = "".join(random.Random(1).choices(ALPHABET, k=20_000))
    with pytest.raises(InvalidParameter, match="too long"):
        sign(Link(url="http://a/", expires=NOW, id=b"", params={"format": selector}), KEY)


def test_a_link_with_an_unknown_field_is_invalid() -> None:
    """The unknown field may be a restriction of a later version, so a server that ignored it would allow too much."""

    class Later(Link, frozen=True, kw_only=True, omit_defaults=True):
        countries: str = ""

    assert open_link(sign(Later(url="http://a/", expires=NOW + 1, id=b""), KEY), (KEY,), NOW).url == "http://a/"
    with pytest.raises(LinkInvalid):
        open_link(sign(Later(url="http://a/", expires=NOW + 1, id=b"", countries="CH"), KEY), (KEY,), NOW)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6/128", "2001:db8:1:2:3:4:5:6/128"),
        ("2001:db8::/47", "2001:db8::/47"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_unpack_network_returns_the_network_that_pack_network_encoded(text: str, network: str) -> None:
    assert str(unpack_network(pack_network(text))) == network


@pytest.mark.parametrize("text", ["", "a", "192.0.2.7/33", "192.0.2", "client", "2001:db8::/129"])
def test_packing_a_text_that_is_not_a_network_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        pack_network(text)


@pytest.mark.parametrize(
    ("network", "address", "admitted"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "2001:db8::1", False),
        ("::/0", "192.0.2.7", False),
        ("10.0.0.0/8", "10.9.9.9", True),
        ("10.0.0.0/8", "testclient", False),
        ("10.0.0.0/8", "", False),
        (None, "testclient", True),
        (None, "", True),
    ],
)
def test_a_link_admits_only_clients_in_its_network(network: str | None, address: str, admitted: bool) -> None:
    packed = b"" if network is None else pack_network(network)
    assert Link(url="", expires=0, id=b"", packed_network=packed).admits(address) is admitted
