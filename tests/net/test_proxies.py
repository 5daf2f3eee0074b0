"""Tests of upstream proxies that open tunnels only to port 443, as Squid does by default."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import pytest

from serverpy.errors import TargetForbidden, UpstreamFailed
from serverpy.net.client import Client
from serverpy.net.guard import Guard
from serverpy.net.http1 import Request
from serverpy.options import Network, Timeouts
from tests.net.egress.clients import LOOPBACK, by_requests
from tests.net.egress.threads import EgressThread
from tests.net.opening import OK, fetched
from tests.net.origin import Origin, read_head

DENIED = b"HTTP/1.1 403 Forbidden\r\nServer: squid\r\nContent-Length: 6\r\n\r\ndenied"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


def squid(answer: bytes = HELLO, refusal: bytes = DENIED) -> Callable[[socket.socket, bytes], None]:
    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(refusal if head.startswith(b"CONNECT ") else answer)

    return handle


async def found(host: str, port: int) -> Sequence[str]:
    return ("127.0.0.1",)


def through(proxy: Origin, guard: Guard = LOOPBACK, credentials: str = "") -> Client:
    network = Network(proxy=f"http://{credentials}127.0.0.1:{proxy.port}")
    return Client(guard, network, Timeouts(connect=30.0, stall=30.0), lookup=found)


@pytest.mark.parametrize("status", [b"400 Bad Request", b"403 Forbidden", b"405 Not Allowed", b"501 Not Implemented"])
async def test_an_http_request_is_sent_to_the_proxy_in_absolute_form_if_the_proxy_refuses_a_tunnel_for_it(
    status: bytes,
) -> None:
    refusal = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status
    with Origin(squid(refusal=refusal)) as proxy:
        made = through(proxy, credentials="u:p@")
        for _ in range(2):
            assert await fetched(made, "http://site.example:81/a|b?c") == (200, b"hello")
        made.close()
    first, second, third = proxy.heads
    assert first.startswith(b"CONNECT 127.0.0.1:81 HTTP/1.1\r\n")
    for head in (second, third):  # the client remembers that the proxy refused the tunnel
        assert head.startswith(b"GET http://site.example:81/a%7Cb?c HTTP/1.1\r\nHost: site.example:81\r\n")
        assert head.count(b"Proxy-Authorization: Basic dTpw\r\n") == 1


async def test_a_request_that_the_proxy_refuses_in_absolute_form_as_well_raises_upstream_failed() -> None:
    with Origin(squid(answer=DENIED)) as proxy:
        made = through(proxy)
        with pytest.raises(UpstreamFailed, match="refused the connection"):
            await fetched(made, "http://site.example/")
        made.close()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_403_counts_as_a_response_of_the_site_if_the_proxy_has_forwarded_an_earlier_request(kept: bool) -> None:
    answers = [HELLO, DENIED]

    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(DENIED if head.startswith(b"CONNECT ") else answers.pop(0))
        if kept and answers:
            read_head(connection)
            connection.sendall(answers.pop(0))

    with Origin(handle) as proxy:
        made = through(proxy)
        assert await fetched(made, "http://site.example/") == (200, b"hello")
        assert await fetched(made, "http://site.example/") == (403, b"denied")
        made.close()


@pytest.mark.parametrize("refusal", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"", b"nonsense\r\n\r\n"])
async def test_a_tunnel_that_fails_for_another_reason_than_a_refusal_causes_no_second_request(refusal: bytes) -> None:
    with Origin(squid(refusal=refusal)) as proxy:
        made = through(proxy)
        with pytest.raises(UpstreamFailed):
            await fetched(made, "http://site.example/")
        made.close()
    assert len(proxy.heads) == 1


async def test_an_https_request_is_never_sent_in_absolute_form() -> None:
    with Origin(squid()) as proxy:
        made = through(proxy)
        with pytest.raises(UpstreamFailed):
            await made.open(Request(url="https://site.example:8443/"))
        made.close()
    assert [head.split(b" ")[0] for head in proxy.heads] == [b"CONNECT"]


async def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up on this machine")


def remote(proxy: Origin) -> Network:
    return Network(proxy=f"http://127.0.0.1:{proxy.port}", proxy_dns="remote")


def tunnelling(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    read_head(connection)
    connection.sendall(HELLO)


async def test_a_proxy_that_resolves_names_gets_the_host_name_in_place_of_an_ip_address() -> None:
    with Origin(tunnelling) as proxy:
        made = Client(Guard(), remote(proxy), Timeouts(connect=30.0, stall=30.0), lookup=never)
        assert await fetched(made, "http://site.onion/") == (200, b"hello")
        assert await fetched(made, "http://b\u00fccher.example:8080/") == (200, b"hello")
        made.close()
        with EgressThread(Guard(), network=remote(proxy), lookup=never) as egress:
            reply = await asyncio.to_thread(by_requests, "http://other.onion/", egress.url)
    assert reply.body == b"hello"
    asked = [head.split(b" ")[1] for head in proxy.heads]
    assert asked == [b"site.onion:80", b"xn--bcher-kva.example:8080", b"other.onion:80"]


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://a.localhost./",
        "http://router/",
        "http://nas.local/",
        "http://metadata.google.internal/",
        "http://PRINTER.LAN/",
        "http://x.home.arpa/",
        "http://site.example:25/",
        "http://127.0.0.1/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://2130706433/",
    ],
)
async def test_a_proxy_that_resolves_names_gets_no_name_or_address_of_a_private_network(url: str) -> None:
    with Origin(tunnelling) as proxy:
        made = Client(Guard(), remote(proxy), Timeouts(connect=30.0, stall=30.0), lookup=never)
        with pytest.raises(TargetForbidden):
            await made.open(Request(url=url))
        made.close()
        with EgressThread(Guard(), network=remote(proxy), lookup=never) as egress:
            reply = await asyncio.to_thread(by_requests, url, egress.url)
    assert (reply.refused, proxy.heads) == ("target_forbidden", [])


async def test_the_guard_checks_an_ip_address_before_the_proxy_gets_it() -> None:
    with Origin(squid()) as proxy:
        made = through(proxy, Guard())
        with pytest.raises(UpstreamFailed):
            await made.open(Request(url="http://site.example/"))
        with EgressThread(Guard(), network=Network(proxy=f"http://127.0.0.1:{proxy.port}"), lookup=found) as egress:
            reply = await asyncio.to_thread(by_requests, "http://site.example/", egress.url)
    assert (reply.refused, proxy.heads) == ("upstream_failed", [])


def test_the_egress_sends_http_requests_in_absolute_form_to_an_upstream_proxy_that_refuses_tunnels() -> None:
    with (
        Origin(squid()) as proxy,
        EgressThread(LOOPBACK, network=Network(proxy=f"http://u:p@127.0.0.1:{proxy.port}"), lookup=found) as egress,
    ):
        for _ in range(2):
            assert by_requests("http://site.example/a?b", egress.url).body == b"hello"
    _, second, third = proxy.heads
    for head in (second, third):
        assert head.startswith(b"GET http://site.example/a?b HTTP/1.1\r\nHost: site.example\r\n")
        assert head.count(b"Proxy-Authorization: Basic dTpw\r\n") == 1
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1


async def test_interim_responses_of_the_proxy_before_the_tunnel_opens_are_skipped() -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + b"HTTP/1.1 200 Connection established\r\n\r\n")
        assert read_head(connection).startswith(b"GET /a HTTP/1.1\r\n")
        connection.sendall(HELLO)

    with Origin(handle) as proxy:
        made = through(proxy)
        assert await fetched(made, "http://site.example/a") == (200, b"hello")
        made.close()
