"""Tests of the formats of the keys file: valid and invalid content, and that no error message shows a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.access.clients import parse_networks
from serverpy.access.key import NO_LIMIT, Key
from serverpy.access.keys import DIGEST_PREFIX, Keys, digest_of, format_key, new_secret, parse_keys
from serverpy.errors import ConfigurationError

SECRET = "wekibC8900KKKeQD2yJbTK3Fhh8Ji-9N3oPfSFd9vAQ"
DIGEST = digest_of(SECRET.encode())
HEX = DIGEST.hex()
UUID = "b5c7160a-b655-4c7a-b500-de839f094550"
OTHER_UUID = "00000000-1111-2222-3333-444444444444"
NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


def only(text: str) -> Key:
    (key,) = parse_keys(text)
    return key


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(text)
    assert SECRET not in str(caught.value)
    assert UUID not in str(caught.value)
    return str(caught.value).splitlines()


def test_a_key_is_parsed_with_every_field_of_its_toml_table() -> None:
    text = f"""
        [keys.bob]   # the bot
        sha256 = "{HEX.upper()}"
        admin = true
        expires = 2027-01-31
        rate = "100/hour"
        streams = 5
        bytes_per_day = "10GiB"
        sites = ["youtube", "vimeo"]
        methods = ["relay"]
        networks = ["10.0.0.1/8", "::1"]
    """
    assert only(text) == Key(
        name="bob",
        digest=DIGEST,
        admin=True,
        expires=datetime(2027, 1, 31, tzinfo=UTC),
        rate="100/hour",
        streams=5,
        bytes_per_day=10 << 30,
        sites=("youtube", "vimeo"),
        methods=("relay",),
        networks=parse_networks(["10.0.0.0/8", "::1"]),
    )


def test_a_toml_table_with_only_sha256_is_a_key_without_limits() -> None:
    assert only(f'[keys.a]\nsha256 = "{HEX}"') == Key(name="a", digest=DIGEST)
    assert only(f'keys.a.sha256 = "{HEX}"') == Key(name="a", digest=DIGEST)


@pytest.mark.parametrize("text", ["", "# nothing\n", "[keys]\n", "{}", " \n"])
def test_a_keys_file_without_keys_is_valid(text: str) -> None:
    assert len(parse_keys(text)) == 0


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T10:00:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
        ("2027-01-31 10:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_an_expiry_date_means_midnight_utc_and_an_expiry_time_without_a_time_zone_is_in_utc(
    written: str, read: datetime
) -> None:
    assert only(f'[keys.a]\nsha256 = "{HEX}"\nexpires = {written}').expires == read


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('sha256 = "abc"', "key a: `sha256` must be the SHA-256 of the key: 64 hexadecimal digits"),
        (f'sha256 = "{SECRET}"', "key a: `sha256` must be the SHA-256 of the key: 64 hexadecimal digits"),
        ("admin = 1", "key a: `admin` must be true or false"),
        ('expires = "2027-01-31"', "key a: `expires` must be a date such as 2027-01-31, or a date and time"),
        ("expires = 10:00:00", "key a: `expires` must be a date"),
        (f'rate = "{SECRET}"', "key a: `rate` must be a rate such as"),
        ("rate = 5", "key a: `rate` must be a rate such as"),
        ("streams = 0", "key a: `streams` must be a whole number of at least 1"),
        ("streams = true", "key a: `streams` must be a whole number of at least 1"),
        ("streams = 1.5", "key a: `streams` must be a whole number of at least 1"),
        ('bytes_per_day = "10GB"', "key a: `bytes_per_day` must be a number of bytes"),
        ("bytes_per_day = 0", "key a: `bytes_per_day` must be a whole number of at least 1"),
        ("sites = []", "key a: `sites` must have at least one item; leave it out to allow all"),
        ('sites = "youtube"', "key a: `sites` must be an array"),
        ('sites = ["a b"]', "key a: `sites` must be an array of strings without spaces and commas"),
        ('sites = ["youtube", "ALL"]', "key a: `sites` must contain names of yt-dlp extractors; leave it out to allow"),
        ('rate = "1/minute;2/minute"', "key a: `rate` must be a rate such as"),
        (f'bytes_per_day = "{"9" * 5000}"', "key a: `bytes_per_day` must be a number of bytes"),
        (f"streams = {'9' * 5000}", "not valid TOML: a number has too many digits"),
        ('methods = ["magic"]', "key a: `methods` must contain only streaming methods: relay, embedded, subprocess"),
        ('networks = ["10.0.0.0/99"]', "key a: `networks` must contain only IP addresses, or networks such as"),
        ("expries = 2027-01-31", "key a: `expries` is not a field of a key"),
    ],
)
def test_the_error_for_an_invalid_field_names_the_key_and_the_field_but_shows_no_value(line: str, fault: str) -> None:
    digest = "" if line.startswith("sha256") else f'sha256 = "{HEX}"\n'
    (found,) = faults(f"[keys.a]\n{digest}{line}")
    assert found.startswith(fault)


def test_the_error_for_an_invalid_keys_file_lists_every_fault_of_every_key() -> None:
    found = faults('[keys.a]\nadmin = 1\n[keys.b]\nstreams = 0\n[keys."c d"]\n[keys]\ne = 1\n')
    assert [line.partition(" must")[0] for line in found] == [
        "key a: `sha256` is missing",
        "key a: `admin`",
        "key b: `sha256` is missing",
        "key b: `streams`",
        "a key: the name",
        "key e:",
    ]


@pytest.mark.parametrize("text", ["[keys.a", "x = 1", f'[keys.a]\nsha256 = "{HEX}"\n[other]\n', "keys = 1", "[[keys]]"])
def test_a_keys_file_that_is_invalid_toml_or_has_entries_other_than_keys_raises_configuration_error(text: str) -> None:
    assert len(faults(text)) == 1


def test_two_keys_with_the_same_sha256_digest_raise_configuration_error() -> None:
    (fault,) = faults(f'[keys.a]\nsha256 = "{HEX}"\n[keys.b]\nsha256 = "{HEX.upper()}"\n')
    assert fault == "the keys a and b have the same SHA-256: remove one of them"


KEY_VALUES = st.builds(
    Key,
    name=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    digest=st.binary(min_size=32, max_size=32),
    admin=st.booleans(),
    expires=st.none() | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)),
    rate=st.sampled_from([None, NO_LIMIT, "100/hour", "1/second; 5 per 2 days"]),
    streams=st.none() | st.integers(1, 10**6),
    bytes_per_day=st.none() | st.integers(1, 10**15),
    sites=st.lists(st.from_regex(r"[a-z:\"\\é]{1,9}", fullmatch=True)).map(tuple),
    methods=st.sampled_from([(), ("relay",), ("embedded", "subprocess")]),
    networks=st.sampled_from([(), parse_networks(["10.0.0.0/8", "2001:db8::/32"])]),
)


@given(KEY_VALUES)
def test_a_key_that_is_formatted_as_toml_is_parsed_back_unchanged(key: Key) -> None:
    assert only(format_key(key)) == key


# Search for a key


def test_a_key_is_found_by_its_secret_and_by_its_name() -> None:
    keys = Keys([Key(name="a", digest=DIGEST), Key(name="b", digest=digest_of(b"b"))])
    assert keys.find(SECRET.encode()) == keys.get("a") == Key(name="a", digest=DIGEST)
    assert (keys.find(HEX.encode()), keys.find(DIGEST), keys.get("c")) == (None, None, None)
    assert [key.name for key in keys] == ["a", "b"]


def test_a_key_is_found_by_its_name_and_digest_only_until_it_expires() -> None:
    keys = Keys([Key(name="a", digest=DIGEST, expires=NOW)])
    before = NOW - timedelta(seconds=1)
    for digest in (DIGEST, DIGEST[:DIGEST_PREFIX]):
        assert keys.living("a", digest, before) == keys.get("a")
        assert keys.living("a", digest, NOW) is None
    assert keys.living("b", DIGEST, before) is None
    assert keys.living("a", digest_of(b"another"), before) is None
    assert keys.living("a", DIGEST[: DIGEST_PREFIX - 1], before) is None
    assert keys.living("a", b"", before) is None


def test_new_secrets_are_unique_and_have_43_characters_that_are_safe_in_urls() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(
        len(secret) == 43 and secret.isascii() and secret.replace("-", "").replace("_", "").isalnum()
        for secret in secrets
    )


def test_a_key_that_lists_networks_allows_only_client_addresses_in_these_networks() -> None:
    key = Key(name="a", digest=DIGEST, networks=parse_networks(["10.0.0.0/8", "2001:db8::/32"]))
    assert all(map(key.allows_address, ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1")))
    assert not any(map(key.allows_address, ("11.0.0.1", "::1", "", "nonsense")))
    assert Key(name="a", digest=DIGEST).allows_address("")


# Keys files in cobalt's format


def cobalt(**rights: Any) -> Key:
    return only(json.dumps({UUID: rights}))


def test_the_keys_in_a_keys_file_of_cobalt_are_parsed_with_their_rights() -> None:
    content = {
        UUID: {
            "name": "the bot!",
            "limit": 30,
            "ips": ["10.0.0.0/8", "192.0.2.1"],
            "userAgents": ["*bot*"],
            "allowedServices": ["youtube", "bsky", "ok"],
        },
        OTHER_UUID: {"limit": "unlimited", "allowedServices": "all"},
    }
    keys = parse_keys(json.dumps(content, indent=2))
    bot = keys.find(UUID.encode())
    assert bot == Key(
        name="the-bot",
        digest=digest_of(UUID.encode()),
        rate="30/minute",
        sites=("youtube", "bluesky", "odnoklassniki"),
        networks=parse_networks(["10.0.0.0/8", "192.0.2.1"]),
    )
    other = keys.find(OTHER_UUID.encode())
    assert other is not None
    assert (other.rate, other.sites, other.name) == (NO_LIMIT, (), f"key-{other.digest.hex()[:8]}")
    assert keys.warnings == ("key the-bot: `userAgents` has no effect, because ServerPY does not check User-Agent",)


def test_two_keys_of_cobalt_with_the_same_name_get_different_names() -> None:
    keys = parse_keys(json.dumps({UUID: {"name": "a"}, OTHER_UUID: {"name": "a"}}))
    assert len(keys) == 2
    assert all(key.name.startswith("a-") for key in keys)


@pytest.mark.parametrize(
    ("rights", "fault"),
    [
        ({"limit": 0}, "`limit` must be a number of at least 1, or unlimited"),
        ({"limit": True}, "`limit` must be"),
        ({"limit": "many"}, "`limit` must be"),
        ({"limit": float("inf")}, "`limit` must be"),
        ({"ips": ["nowhere"]}, "`ips` must contain only IP addresses, or networks"),
        ({"ips": "10.0.0.1"}, "`ips` must contain only IP addresses, or networks"),
        ({"allowedServices": []}, "`allowedServices` must have at least one item"),
        ({"name": 5}, "`name` must be a string"),
        ({"nmae": "a"}, "has an unknown field: only allowedServices, ips, limit, name, userAgents are allowed"),
        ([], "must be a JSON object"),
    ],
)
def test_an_invalid_key_in_a_keys_file_of_cobalt_raises_configuration_error_with_the_reason(
    rights: Any, fault: str
) -> None:
    (found,) = faults(json.dumps({UUID: rights}))
    assert found.startswith(f"key 1: {fault}")


@pytest.mark.parametrize("text", ["{", '{"not a uuid": {}}', f'{{"{UUID.upper()}": {{}}}}'])
def test_a_json_keys_file_whose_member_names_are_not_lower_case_uuids_raises_configuration_error(text: str) -> None:
    assert len(faults(text)) == 1
    assert cobalt().rate is None
