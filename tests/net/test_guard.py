"""Tests of the addresses to which the guard allows connections, and of the URLs that the server accepts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import quote, urlsplit

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serverpy.errors import InvalidUrl, TargetForbidden, UpstreamFailed
from serverpy.net.guard import (
    MAX_ADDRESSES,
    MAX_URL_CHARACTERS,
    Guard,
    Lookup,
    UnusableName,
    check_url,
    parse_networks,
    resolve_host,
)
from serverpy.net.ports import BAD_PORTS

relaxed = settings(deadline=None)
thorough = settings(deadline=None, max_examples=1000)


def passes(address: str, port: int = 443, guard: Guard | None = None) -> bool:
    try:
        (guard or Guard()).check(address, port)
    except TargetForbidden:
        return False
    return True


def answering(*addresses: str) -> Lookup:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return addresses

    return lookup


# --- addresses: the guard is compared with the same policy, written again on octets and hexadecimal text


def open_v4(octets: Sequence[int]) -> bool:
    a, b, c, d = octets
    closed = (
        a in (0, 10, 127)
        or a >= 224
        or (a == 100 and 64 <= b <= 127)
        or (a == 169 and b == 254)
        or (a == 172 and 16 <= b <= 31)
        or (a == 192 and b == 168)
        or (a == 198 and b in (18, 19))
        or (a, b, c) in ((192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 51, 100), (203, 0, 113))
        or (a, b, c, d) == (168, 63, 129, 16)
    )
    return not closed


def open_v6(digits: str) -> bool:
    """Return True if the guard should allow the IPv6 address, given as 32 hexadecimal digits. This function implements
    the rules a second time, so that a test can compare the guard with them."""
    last_four = [int(digits[i : i + 2], 16) for i in range(24, 32, 2)]
    if digits.startswith(("0" * 20 + "ffff", "0064ff9b" + "0" * 16)):
        return open_v4(last_four)
    if digits[16:24] in ("00005efe", "02005efe") and not open_v4(last_four):
        return False
    documentation = digits.startswith(("20010db8", "3fff0"))
    assignments = digits.startswith("2001") and int(digits[4:8], 16) < 0x200
    return digits[0] in "23" and not digits.startswith("2002") and not documentation and not assignments


SPECIAL_V4 = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.0/24", "169.254.0.0/16", "172.0.0.0/8"]
SPECIAL_V4 += ["192.0.0.0/16", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/14", "203.0.113.0/24", "224.0.0.0/3"]
SPECIAL_V6 = ["::/96", "::ffff:0:0/96", "64:ff9b::/95", "64:ff9b:1::/48", "2001::/22", "2001:db8::/32", "2002::/16"]
SPECIAL_V6 += ["3fff::/19", "fc00::/7", "fe80::/9", "ff00::/8", "2600::5efe:0:0/96", "2600::200:5efe:0:0/96"]

v4_addresses = st.ip_addresses(v=4) | st.sampled_from(SPECIAL_V4).flatmap(
    lambda text: st.ip_addresses(network=IPv4Network(text, strict=False))
)
wrapped_v4 = st.builds(
    lambda prefix, inner: IPv6Address(int(IPv6Network(prefix).network_address) | int(inner)),
    st.sampled_from(["::/96", "::ffff:0:0/96", "64:ff9b::/96", "2600::5efe:0:0/96", "2600::200:5efe:0:0/96"]),
    v4_addresses,
)
v6_addresses = (
    st.ip_addresses(v=6)
    | wrapped_v4
    | st.sampled_from(SPECIAL_V6).flatmap(lambda text: st.ip_addresses(network=IPv6Network(text, strict=False)))
)


@thorough
@given(v4_addresses)
def test_the_guard_allows_an_ipv4_address_if_and_only_if_it_is_public(address: IPv4Address) -> None:
    assert passes(str(address)) == open_v4([int(octet) for octet in str(address).split(".")])


@thorough
@given(v6_addresses)
@example(IPv6Address("64:ff9b::808:808"))
@example(IPv6Address("::ffff:8.8.8.8"))
def test_the_guard_allows_an_ipv6_address_if_and_only_if_it_and_any_embedded_ipv4_are_public(
    address: IPv6Address,
) -> None:
    assert passes(str(address)) == open_v6(address.exploded.replace(":", ""))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "198.18.0.1",
        "255.255.255.255",
        "224.0.0.251",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001:0:808:808::",
        "2600::5efe:a00:1",
        "2600::200:5efe:7f00:1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_the_guard_refuses_an_ip_address_outside_the_public_internet(address: str) -> None:
    assert not passes(address)


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f.1", "127.1", "1.1.1.1 ", "[::1]", "2600::1%1"])
def test_the_guard_refuses_text_that_is_not_a_plain_numeric_address(text: str) -> None:
    assert not passes(text)
    assert not passes(text, guard=Guard(allow=parse_networks(["0.0.0.0/0", "::/0"])))


@pytest.mark.parametrize("port", [0, -1, 65536, 25, 6667, 10080])
def test_the_guard_refuses_port_0_and_invalid_ports_and_the_bad_ports_of_the_fetch_standard(port: int) -> None:
    assert not passes("8.8.8.8", port)


def test_there_are_83_bad_ports_and_none_of_them_is_a_common_web_port() -> None:
    assert len(BAD_PORTS) == 83
    assert {80, 443, 8000, 8080, 8443}.isdisjoint(BAD_PORTS)


# --- ALLOW_NETWORKS


def test_the_setting_allow_networks_accepts_networks_with_and_without_a_port() -> None:
    texts = ["127.0.0.0/8", "10.1.2.3", "127.0.0.1:8001", "[::1]:80", "::1", "fd00::/8"]
    read = [(str(item.network), item.port) for item in parse_networks(texts)]
    assert read == [
        ("127.0.0.0/8", None),
        ("10.1.2.3/32", None),
        ("127.0.0.1/32", 8001),
        ("::1/128", 80),
        ("::1/128", None),
        ("fd00::/8", None),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10.0.0.1/8", "1.2.3.4:0", "1.2.3.4:65536", "[1.2.3.4]:80", "fe80::1%lo", "[::1", "1.2.3:80"],
)
def test_the_error_for_an_invalid_network_names_the_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a network|no valid port") as caught:
        parse_networks(["10.0.0.0/8", text])
    assert repr(text) in str(caught.value)


def test_the_guard_allows_every_port_of_an_address_in_an_allowed_network_without_a_port() -> None:
    guard = Guard(allow=parse_networks(["127.0.0.0/8"]))
    assert passes("127.9.9.9", 80, guard)
    assert passes("127.0.0.1", 25, guard)
    assert passes("::ffff:127.0.0.1", 80, guard)
    assert not passes("::1", 80, guard)
    assert not passes("10.0.0.1", 80, guard)


def test_the_guard_allows_only_the_given_port_of_an_address_in_an_allowed_network_with_a_port() -> None:
    guard = Guard(allow=parse_networks(["127.0.0.1:8001", "[::1]:80"]))
    assert passes("127.0.0.1", 8001, guard)
    assert not passes("127.0.0.1", 8002, guard)
    assert passes("::1", 80, guard)
    assert not passes("::1", 8001, guard)


def test_allowing_an_ipv4_network_does_not_allow_its_ipv6_translations() -> None:
    guard = Guard(allow=parse_networks(["127.0.0.0/8"]))
    assert not passes("64:ff9b::7f00:1", 80, guard)
    assert not passes("::127.0.0.1", 80, guard)


# --- the server's own sockets


def test_the_guard_refuses_the_address_and_port_of_this_server_even_if_its_network_is_allowed() -> None:
    allowing = Guard(allow=parse_networks(["127.0.0.0/8", "::/0"]))
    guard = allowing.refusing("127.0.0.1", 8000)
    assert passes("127.0.0.1", 8000, allowing)
    assert not passes("127.0.0.1", 8000, guard)
    assert not passes("::ffff:127.0.0.1", 8000, guard)
    assert not passes("::ffff:0.0.0.0", 8000, guard)
    assert passes("127.0.0.1", 8001, guard)
    assert passes("127.0.0.2", 8000, guard)


def test_the_guard_refuses_the_address_and_port_of_this_server_even_if_the_address_is_public() -> None:
    assert not passes("8.8.8.8", 8000, Guard().refusing("8.8.8.8", 8000))


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_the_guard_refuses_the_port_of_this_server_on_every_interface_if_the_server_is_bound_to_all_addresses(
    wildcard: str,
) -> None:
    guard = Guard(allow=parse_networks(["0.0.0.0/0", "::/0"])).refusing(wildcard, 8000)
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    local = [entry.address for entry in entries if entry.family == socket.AF_INET]
    assert local
    for address in [*local, "127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::"]:
        assert not passes(address, 8000, guard)
        assert passes(address, 8001, guard)
    assert passes("8.8.8.8", 8000, guard)


def test_the_guard_accepts_the_address_of_this_server_only_in_numeric_form() -> None:
    with pytest.raises(ValueError, match="localhost"):
        Guard().refusing("localhost", 80)


# --- names


@pytest.mark.parametrize(
    "addresses", [("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8"), ("8.8.8.8", "::ffff:10.0.0.1"), ("fe80::1%2",)]
)
def test_the_guard_refuses_a_host_if_one_of_its_addresses_is_forbidden(addresses: tuple[str, ...]) -> None:
    with pytest.raises(UnusableName):
        asyncio.run(resolve_host(Guard(), "rebinding.example", 80, lookup=answering(*addresses)))


def test_only_the_first_of_thousands_of_addresses_of_a_host_are_checked_and_used() -> None:
    public = [f"93.184.{number // 256}.{number % 256}" for number in range(4000)]
    found = asyncio.run(resolve_host(Guard(), "site.example", 443, lookup=answering(*public, "127.0.0.1")))
    assert found == tuple(public[:MAX_ADDRESSES])
    inside = [*public[: MAX_ADDRESSES - 1], "127.0.0.1"]
    with pytest.raises(UnusableName):
        asyncio.run(resolve_host(Guard(), "site.example", 443, lookup=answering(*inside)))


def test_the_addresses_of_a_host_keep_their_order_and_lose_their_duplicates() -> None:
    lookup = answering("2606:4700::1", "8.8.8.8", "8.8.8.8", "::ffff:8.8.4.4")
    found = asyncio.run(resolve_host(Guard(), "site.example", 443, lookup=lookup))
    assert found == ("2606:4700::1", "8.8.8.8", "8.8.4.4")


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1.", "8.8.8", "site.123", "0X7F.0X1"]
)
def test_the_guard_refuses_an_unusual_numeric_host_whatever_it_resolves_to(host: str) -> None:
    allowing = Guard(allow=parse_networks(["0.0.0.0/0"]))
    with pytest.raises(TargetForbidden):
        asyncio.run(resolve_host(allowing, host, 80, lookup=answering("8.8.8.8")))


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.0.0.1", "::1", "ip6-localhost.localhost"])
def test_the_guard_refuses_every_host_name_that_means_loopback(host: str) -> None:
    with pytest.raises((TargetForbidden, UpstreamFailed)):
        asyncio.run(resolve_host(Guard(), host, 80))


@relaxed
@given(st.text(max_size=40))
def test_the_guard_refuses_every_host_name_that_resolves_to_a_forbidden_address(host: str) -> None:
    with pytest.raises((TargetForbidden, UpstreamFailed)):
        asyncio.run(resolve_host(Guard(), host, 80, lookup=answering("127.0.0.1")))


@pytest.mark.parametrize("host", ["missing.invalid", "a..b", "x" * 64 + ".example", "a\0b", "", "söme thing"])
def test_a_host_that_does_not_resolve_raises_upstream_failed(host: str) -> None:
    with pytest.raises(UpstreamFailed, match="does not resolve"):
        asyncio.run(resolve_host(Guard(), host, 80))


def test_a_dns_answer_without_an_address_raises_upstream_failed() -> None:
    with pytest.raises(UpstreamFailed, match="does not resolve"):
        asyncio.run(resolve_host(Guard(), "empty.example", 80, lookup=answering()))


async def no_answer(host: str, port: int) -> Sequence[str]:
    raise OSError("no such name")


def test_a_name_that_resolves_to_a_private_address_gets_the_same_error_as_a_name_that_does_not_exist() -> None:
    """If the two errors were different, a client could find out which names exist in the private networks of this
    machine."""
    errors = []
    for lookup in (answering("10.20.30.40"), answering(), no_answer):
        with pytest.raises(UpstreamFailed) as caught:
            asyncio.run(resolve_host(Guard(), "inside.example", 80, lookup=lookup))
        errors.append((type(caught.value), str(caught.value)))
    assert len(set(errors)) == 1
    assert "10.20.30.40" not in str(errors)


# --- URLs


@pytest.mark.parametrize(
    "url",
    [
        "http://site.example/",
        "HTTPS://Site.Example:8443/a%20b?q=ä#frag",
        "http://site.example",
        "http://site.example:/",
        "http://[2606:4700::1]:8080/x",
        "http://under_score.example./?u=http://other.example/@",
        "http://xn--bcher-kva.example/👩‍🚀",
    ],
)
def test_an_ordinary_url_is_accepted_unchanged(url: str) -> None:
    assert check_url(url) == url


def test_an_internationalized_host_name_is_converted_to_ascii() -> None:
    assert check_url("https://Bücher.example:81/ä?ö#ü") == "https://xn--bcher-kva.example:81/ä?ö#ü"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must begin"),
        ("site.example/x", "must begin"),
        ("-o/etc/passwd", "must begin"),
        ("--batch-file=http://site.example/", "must begin"),
        ("file:///etc/passwd", "must begin"),
        ("ftp://site.example/", "must begin"),
        ("view-source:http://site.example/", "must begin"),
        ("http:site.example", "must begin"),
        ("http:///path", "no host"),
        ("http://", "no host"),
        ("http://:80/", "no host"),
        ("http://user@site.example/", "user name"),
        ("http://user:pass@site.example/", "user name"),
        ("http://@site.example/", "user name"),
        ("http://site.example/a b", "white space"),
        (" http://site.example/", "white space"),
        ("http://site.example/\n", "white space"),
        ("http://site.example/\x7f", "control"),
        ("http://site.example/\u2028", "white space"),
        ("http://site.example/\ud800", "control"),
        ("http://site.example\\@other.example/", "backslash"),
        ("http://site.example:0/", "port"),
        ("http://site.example:65536/", "port"),
        ("http://site.example:x/", "port"),
        ("http://site.example:８０/", "port"),
        ("http://site..example/", "not a valid name"),
        ("http://%31%32%37.0.0.1/", "not a valid name"),
        ("http://" + "x" * 64 + ".example/", "not a valid name"),
        ("http://[::1%25lo]/", "not a valid name"),
        ("http://[::1/", "invalid host or port"),
        ("http://[v1.x]/", "not a valid name"),
        ("http://::1/", "invalid host or port"),
        ("http://site.example/#__youtubedl_smuggle=%7B%7D", "internal data"),
        ("http://site.example/?u=x%23__youtubedl_smuggle%3D1", "internal data"),
        ("http://site.example/?u=%2523%255F%255Fyoutubedl_smuggle", "internal data"),
        ("http://site.example/%" + "25" * 20, "percent-encoded"),
        ("http://site.example/" + "x" * MAX_URL_CHARACTERS, "longer"),
    ],
)
def test_the_error_for_a_refused_url_states_the_reason(url: str, says: str) -> None:
    with pytest.raises(InvalidUrl, match=says):
        check_url(url)


url_texts = st.text(max_size=60) | st.from_regex(r"https?://[^/]{0,30}(/.{0,30})?", fullmatch=True)


@relaxed
@given(url_texts)
@example("http://[::ffff:1.2.3.4]:80?x")
@example("https://ß.example")
def test_an_accepted_url_has_an_ascii_host_without_user_info_and_passes_a_second_check_unchanged(url: str) -> None:
    try:
        checked = check_url(url)
    except InvalidUrl:
        return
    parts = urlsplit(checked)
    assert check_url(checked) == checked
    assert parts.scheme in ("http", "https")
    assert parts.username is None
    assert (parts.hostname or "").isascii()
    assert url.endswith(checked.partition(parts.netloc)[2])


@relaxed
@given(st.integers(min_value=0, max_value=5))
def test_data_for_yt_dlp_that_is_hidden_in_a_url_is_found_at_any_depth_of_percent_encoding(depth: int) -> None:
    text = "#__youtubedl_smuggle={}"
    for _ in range(depth):
        text = quote(text, safe="")
    with pytest.raises(InvalidUrl):
        check_url(f"http://site.example/{text}")
