"""Tests of how the server determines the client of a request: its address behind proxies, and whether the client runs
on this machine."""

from __future__ import annotations

import pytest

from serverpy.access.clients import Client, client_of, names_this_machine, network_of, parse_networks

HOST = (b"host", b"127.0.0.1:8000")
PROXIES = parse_networks(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"])


def forwarded(*values: str, proto: str | None = None, peer: str = "127.0.0.1") -> Client:
    fields = [HOST, *((b"x-forwarded-for", value.encode("latin-1")) for value in values)]
    if proto is not None:
        fields.append((b"x-forwarded-proto", proto.encode()))
    return client_of(peer, fields, PROXIES)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LocalHost.:8000", "[::1]", "[::1]:8000", "192.0.2.1"])
def test_a_client_with_a_loopback_address_is_local_if_its_host_header_contains_an_ip_address_or_localhost(
    peer: str, host: str
) -> None:
    assert client_of(peer, [(b"host", host.encode())]).is_local


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "", "/run/socket"])
def test_a_client_without_a_loopback_address_is_not_local(peer: str) -> None:
    assert not client_of(peer, [HOST]).is_local


@pytest.mark.parametrize(
    "field",
    [
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-x",
    ],
)
@pytest.mark.parametrize("value", [b"127.0.0.1", b"", b"for=127.0.0.1"])
def test_a_request_with_a_header_field_that_proxies_add_is_not_local(field: bytes, value: bytes) -> None:
    client = client_of("127.0.0.1", [HOST, (field, value)])
    assert (client.is_local, client.is_proxied, client.is_known) == (False, True, False)


@pytest.mark.parametrize("host", [None, "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_a_request_whose_host_is_neither_an_ip_address_nor_localhost_is_not_local(host: str | None) -> None:
    """A page of another site can make its host name resolve to a loopback address (DNS rebinding). Such a request must
    not count as local."""
    fields = [] if host is None else [(b"host", host.encode())]
    assert not client_of("127.0.0.1", fields).is_local


@pytest.mark.parametrize("host", ["[127.0.0.1]", "[::1]x", "::1", "127.1", "0x7f.1", "a" * 300, "ä", "[::1]]"])
def test_a_host_that_is_neither_a_valid_ip_literal_nor_localhost_does_not_name_this_machine(host: str) -> None:
    assert not names_this_machine(host.encode())


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
        (["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.1.2.3, 127.0.0.1"], "192.0.2.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:DB8::7"], "2001:db8::7"),
        (["2001:db8:1::9, 2001:db8:1::8"], "2001:db8:1::9"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["10.1.2.3"], "10.1.2.3"),
    ],
)
def test_the_client_is_the_last_address_in_x_forwarded_for_that_is_not_a_trusted_proxy(
    values: list[str], address: str
) -> None:
    client = forwarded(*values)
    assert (client.address, client.is_known, client.is_proxied, client.is_local) == (address, True, True, False)


@pytest.mark.parametrize("value", ["", "unknown", "_hidden", "192.0.2.1, unknown", "1.2.3", "ä", "192.0.2.1,"])
def test_the_client_is_unknown_if_x_forwarded_for_does_not_end_in_an_ip_address(value: str) -> None:
    client = forwarded(value)
    assert (client.address, client.is_known, client.is_proxied) == ("127.0.0.1", False, True)


@pytest.mark.parametrize("value", ["unknown, 10.1.2.3", "192.0.2.1, _hidden, 127.0.0.1, 10.1.2.3"])
def test_the_client_is_unknown_if_x_forwarded_for_has_no_valid_address_before_a_trusted_proxy(value: str) -> None:
    assert not forwarded(value).is_known


def test_an_address_that_the_client_itself_puts_into_x_forwarded_for_is_ignored() -> None:
    """Each proxy appends the address of its peer to X-Forwarded-For, so the field begins with the addresses that the
    client itself has sent."""
    assert forwarded("127.0.0.1, 192.0.2.66").address == "192.0.2.66"


def test_the_x_forwarded_fields_of_an_untrusted_proxy_are_ignored() -> None:
    client = forwarded("127.0.0.1", proto="https", peer="192.0.2.7")
    assert (client.address, client.is_known, client.scheme) == ("192.0.2.7", False, None)


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("https", "https"),
        (" HTTP ", "http"),
        ("https, http", "https"),
        ("http,https", "http"),
        *((proto, None) for proto in ("ws", "", ", https", "ws, https", "https http")),
    ],
)
def test_x_forwarded_proto_of_a_trusted_proxy_determines_the_scheme_if_its_first_value_is_http_or_https(
    proto: str, scheme: str | None
) -> None:
    assert forwarded("192.0.2.1", proto=proto).scheme == scheme


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::7/32", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.7/64", "::/64"),
    ],
)
def test_a_network_of_ipv4_mapped_ipv6_addresses_is_the_ipv4_network(text: str, network: str) -> None:
    """An address of a client is compared as an IPv4 address, even if the socket has an IPv4-mapped one."""
    assert [str(each) for each in parse_networks([text])] == [network]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("", ""),
    ],
)
def test_the_network_of_a_client_is_its_ipv4_address_or_the_64_bit_prefix_of_its_ipv6_address(
    address: str, network: str
) -> None:
    assert network_of(address) == network
