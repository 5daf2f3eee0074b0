"""Tests of the egress settings for an upstream proxy and for a source address."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Sequence

import pytest

from serverpy.errors import ConfigurationError
from serverpy.net.egress import Egress
from serverpy.net.guard import Guard
from serverpy.net.proxies import UpstreamProxy
from serverpy.options import Network
from serverpy.settings import load_settings
from tests.net.egress.clients import LOOPBACK, Fetch, LoopFactory, TunnelRefused, by_requests
from tests.net.egress.threads import EgressThread
from tests.net.origin import BODY, DEADLINE, Origin, read_exactly, read_head, send_sized


async def no_lookup(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"the upstream proxy got the name {host} instead of its address")


async def site_at_loopback(host: str, port: int) -> Sequence[str]:
    assert host == "site.example"
    return ("127.0.0.1",)


def test_the_upstream_proxy_of_the_egress_gets_the_ip_address_that_the_guard_has_checked(
    loop_factory: LoopFactory, fetch: Fetch
) -> None:
    with (
        Origin(send_sized) as origin,
        EgressThread(LOOPBACK, lookup=no_lookup, loop_factory=loop_factory) as outer,
        EgressThread(
            LOOPBACK, network=Network(proxy=outer.url), lookup=site_at_loopback, loop_factory=loop_factory
        ) as egress,
    ):
        reply = fetch(f"http://site.example:{origin.port}/", egress.url)
        assert fetch("http://169.254.169.254/", egress.url).refused == "target_forbidden"
    assert reply.body == BODY
    assert b"\r\nHost: site.example:" in origin.heads[0]


def test_the_egress_answers_502_if_the_upstream_proxy_refuses_the_request(loop_factory: LoopFactory) -> None:
    with (
        EgressThread(Guard(), loop_factory=loop_factory) as outer,
        EgressThread(LOOPBACK, network=Network(proxy=outer.url), loop_factory=loop_factory) as egress,
    ):
        reply = by_requests("http://127.0.0.1:9/", egress.url)
        with pytest.raises(TunnelRefused, match="502"):
            by_requests("https://127.0.0.1:9/", egress.url)
    assert (reply.status, reply.refused) == (502, "upstream_failed")


def test_the_egress_accepts_a_response_of_the_upstream_proxy_that_arrives_byte_by_byte(
    loop_factory: LoopFactory,
) -> None:
    def accept_slowly(connection: socket.socket, head: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert read_head(connection).startswith(b"GET / HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with (
        Origin(accept_slowly) as outer,
        EgressThread(
            LOOPBACK, network=Network(proxy=f"http://u:p%40@127.0.0.1:{outer.port}"), loop_factory=loop_factory
        ) as egress,
    ):
        assert by_requests("http://127.0.0.1:8/", egress.url).body == b"ok"
    assert outer.heads[0].startswith(b"CONNECT 127.0.0.1:8 HTTP/1.1\r\n")
    assert b"Basic " + base64.b64encode(b"u:p@") in outer.heads[0]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 407 No\r\n\r\n", b"nonsense\r\n\r\n", b"X" * 20_000])
def test_the_egress_answers_502_if_the_upstream_proxy_does_not_open_the_tunnel(
    loop_factory: LoopFactory, said: bytes
) -> None:
    with (
        Origin(lambda connection, head: connection.sendall(said)) as outer,
        EgressThread(
            LOOPBACK, network=Network(proxy=f"http://127.0.0.1:{outer.port}"), loop_factory=loop_factory
        ) as egress,
    ):
        assert by_requests("http://127.0.0.1:8/", egress.url).refused == "upstream_failed"


def socks5(connection: socket.socket, target: list[tuple[bytes, bytes]]) -> None:
    """Serve one connection as a SOCKS5 proxy (RFC 1928), without authentication and for IPv4 only. Records the
    requested address, and relays bytes to this address."""
    assert read_exactly(connection, 3)[:1] == b"\5"
    connection.sendall(b"\5\0")
    asked_for = read_exactly(connection, 10)
    assert asked_for[:4] == b"\5\1\0\1"
    target.append((asked_for[4:8], asked_for[8:10]))
    address = (socket.inet_ntoa(asked_for[4:8]), int.from_bytes(asked_for[8:10], "big"))
    with socket.create_connection(address, timeout=DEADLINE) as onward:
        connection.sendall(b"\5\0\0\1" + bytes(6))
        onward.sendall(read_head(connection))
        while data := onward.recv(65536):
            connection.sendall(data)


@pytest.mark.parametrize(
    ("scheme", "greeting", "consent", "asked"),
    [
        ("socks5", b"\5\1\0", b"\5\0", b"\5\1\0\3\x0asite.onion\0\x50"),
        ("socks5h", b"\5\1\0", b"\5\0", b"\5\1\0\3\x0asite.onion\0\x50"),
        ("socks4", b"", b"", b"\4\1\0\x50\0\0\0\1\0site.onion\0"),
    ],
)
def test_a_socks_proxy_that_resolves_names_gets_the_host_name_in_place_of_an_ip_address(
    loop_factory: LoopFactory, scheme: str, greeting: bytes, consent: bytes, asked: bytes
) -> None:
    seen: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            seen.append(read_exactly(connection, len(greeting)))
            connection.sendall(consent)
            seen.append(read_exactly(connection, len(asked)))
            connection.sendall(b"\5\0\0\1" + bytes(6) if greeting else b"\0\x5a" + bytes(6))
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        network = Network(proxy=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", proxy_dns="remote")
        with EgressThread(LOOPBACK, network=network, loop_factory=loop_factory) as egress:
            reply = by_requests("http://site.onion/", egress.url)
        thread.join()
    assert (reply.body, seen) == (b"hello", [greeting, asked])


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_the_upstream_socks_proxy_gets_the_ip_address_that_the_guard_has_checked(
    loop_factory: LoopFactory, scheme: str
) -> None:
    asked_for: list[tuple[bytes, bytes]] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            socks5(connection, asked_for)

    with Origin(send_sized) as origin, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        proxy = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with EgressThread(
            LOOPBACK, network=Network(proxy=proxy), lookup=site_at_loopback, loop_factory=loop_factory
        ) as egress:
            reply = by_requests(f"http://site.example:{origin.port}/", egress.url)
        thread.join()
    assert reply.body == BODY
    assert asked_for == [(b"\x7f\0\0\1", origin.port.to_bytes(2, "big"))]


def test_the_egress_connects_from_the_source_address_in_its_settings(loop_factory: LoopFactory) -> None:
    def send_peer_address(connection: socket.socket, head: bytes) -> None:
        peer: str = connection.getpeername()[0]
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + peer.encode())

    with (
        Origin(send_peer_address) as origin,
        EgressThread(LOOPBACK, network=Network(source_address="127.0.0.7"), loop_factory=loop_factory) as egress,
    ):
        assert by_requests(origin.url, egress.url).body == b"127.0.0.7"


@pytest.mark.parametrize(
    ("proxy", "source_address"), [("ftp://user:secret@h:1", None), ("http://h", None), (None, "eth0"), ("x", None)]
)
def test_the_error_for_an_invalid_egress_setting_does_not_contain_its_secrets(
    proxy: str | None, source_address: str | None
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Egress(Guard(), Network(proxy=proxy, source_address=source_address))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["http://h:1", "HTTP://u:p@h:1", "socks4://h:1", "socks4a://h:1", "Socks5H://[::1]:1"]
)
def test_the_egress_accepts_every_proxy_url_that_the_proxy_setting_accepts(proxy: str) -> None:
    setting = load_settings(proxy=proxy).proxy
    assert setting == proxy
    Egress(Guard(), Network(proxy=setting))


@pytest.mark.parametrize("proxy", ["https://h:1", "http://h", "socks5h://h", "ftp://h:1"])
def test_the_proxy_setting_refuses_every_proxy_url_that_the_egress_refuses(proxy: str) -> None:
    with pytest.raises(ConfigurationError):
        UpstreamProxy(proxy)
    with pytest.raises(ConfigurationError, match=r"PROXY: must be .*http, socks4, socks4a, socks5, socks5h"):
        load_settings(proxy=proxy)


def test_the_repr_of_the_egress_does_not_contain_the_password_of_the_proxy() -> None:
    egress = Egress(Guard(), Network(proxy="http://user:secret@127.0.0.1:1"))
    # a private attribute, because a traceback with local variables may show its repr
    assert "secret" not in repr(egress._connector)
