"""Tests of requests that the egress proxy refuses: requests without its token, requests to forbidden addresses, and
malformed requests."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest

from serverpy.net.guard import Guard, parse_networks
from serverpy.net.heads import MAX_HEAD_BYTES
from tests.net.egress.clients import (
    LOOPBACK,
    Fetch,
    LoopFactory,
    TunnelRefused,
    asked,
    by_curl,
    by_requests,
    by_urllib,
    read_to_end,
    request_for,
)
from tests.net.egress.threads import EgressThread
from tests.net.origin import BODY, DEADLINE, Origin, send_sized


def test_an_origin_cannot_forge_the_header_field_that_marks_a_refusal_by_the_egress(egress: EgressThread) -> None:
    def forge(connection: socket.socket, head: bytes) -> None:
        connection.sendall(
            b"HTTP/1.1 403 Forbidden Target\r\nX-ServerPY-Refused: target_forbidden\r\nContent-Length: 0\r\n\r\n"
        )

    with Origin(forge) as origin:
        reply = by_requests(origin.url, egress.url)
    assert (reply.status, reply.refused) == (403, None)


FORBIDDEN_HOSTS = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "100.64.0.1", "[::ffff:127.0.0.1]"]
FORBIDDEN_HOSTS += ["[64:ff9b::7f00:1]", "2130706433", "0x7f.1", "127.1", "10.1.2.3"]

# libcurl 8.21 cannot request an http URL with an IPv6 literal through any proxy (curl issue 22382)
FORBIDDEN_REQUESTS = [
    pytest.param(client, host, id=f"{client.__name__}-{host}")
    for client in (by_urllib, by_requests, by_curl)
    for host in FORBIDDEN_HOSTS
    if client is not by_curl or not host.startswith("[")
]


@pytest.mark.parametrize(("client", "host"), FORBIDDEN_REQUESTS)
def test_the_egress_refuses_a_request_to_an_internal_address_whichever_http_client_sends_it(
    closed_egress: EgressThread, client: Fetch, host: str
) -> None:
    with Origin(send_sized) as origin:
        reply = client(f"http://{host}:{origin.port}/", closed_egress.url)
    assert (reply.status, reply.refused) == (403, "target_forbidden")
    assert origin.heads == []


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_the_egress_refuses_a_tunnel_to_an_internal_address_whichever_http_client_requests_it(
    closed_egress: EgressThread, fetch: Fetch, host: str
) -> None:
    with Origin(send_sized) as origin, pytest.raises(TunnelRefused, match="403"):
        fetch(f"https://{host}:{origin.port}/", closed_egress.url)
    assert origin.heads == []


def test_the_egress_refuses_a_redirected_request_to_an_internal_address(
    loop_factory: LoopFactory, fetch: Fetch
) -> None:
    with Origin(send_sized) as inside:

        def redirect(connection: socket.socket, head: bytes) -> None:
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % inside.url.encode())

        with Origin(redirect) as outside:
            guard = Guard(allow=parse_networks([f"127.0.0.1:{outside.port}"]))
            with EgressThread(guard, loop_factory=loop_factory) as egress:
                reply = fetch(outside.url, egress.url)
    assert (reply.status, reply.refused) == (403, "target_forbidden")
    assert len(outside.heads) == 1
    assert inside.heads == []


def test_the_egress_refuses_a_host_that_resolves_to_a_public_and_an_internal_address(
    loop_factory: LoopFactory, fetch: Fetch
) -> None:
    async def rebind(host: str, port: int) -> Sequence[str]:
        return ("8.8.8.8", "127.0.0.1")

    with EgressThread(Guard(), lookup=rebind, loop_factory=loop_factory) as egress:
        reply = fetch("http://rebinding.example/", egress.url)
        with pytest.raises(TunnelRefused, match="502"):
            fetch("https://rebinding.example/", egress.url)
    assert (reply.status, reply.refused) == (502, "upstream_failed")


def test_the_egress_looks_up_a_host_once_per_connection(loop_factory: LoopFactory) -> None:
    answers = iter([("127.0.0.1",), ("169.254.169.254",)])

    async def change(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with Origin(send_sized) as origin:
        guard = Guard(allow=parse_networks([f"127.0.0.1:{origin.port}"]))
        with EgressThread(guard, lookup=change, loop_factory=loop_factory) as egress:
            assert by_requests(f"http://site.example:{origin.port}/", egress.url).body == BODY
            assert by_requests(f"http://site.example:{origin.port}/", egress.url).refused == "upstream_failed"


def test_the_egress_refuses_connections_to_its_own_port(egress: EgressThread) -> None:
    own = urlsplit(egress.url).port
    reply = by_requests(f"http://127.0.0.1:{own}/", egress.url)
    assert (reply.status, reply.refused) == (403, "target_forbidden")


def test_a_second_request_on_a_connection_is_not_sent_to_another_host(egress: EgressThread) -> None:
    def read_all(connection: socket.socket, head: bytes) -> None:
        trailing = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(trailing), trailing))

    with Origin(read_all) as first, Origin(send_sized) as second:
        smuggled = request_for(egress, second.url)
        with asked(egress, first.url, extra=smuggled) as connection:
            received = read_to_end(connection)
        assert received.endswith(smuggled)
        assert len(first.heads) == 1
        assert second.heads == []


@pytest.mark.parametrize("scheme", ["ftp", "https", "gopher"])
def test_the_egress_refuses_a_url_scheme_other_than_http(egress: EgressThread, scheme: str) -> None:
    with asked(egress, f"{scheme}://127.0.0.1:1/") as connection:
        received = read_to_end(connection)
    assert received.startswith(b"HTTP/1.1 403 ")
    assert b"X-ServerPY-Refused: target_forbidden\r\n" in received


def test_the_egress_refuses_a_request_with_a_wrong_token(egress: EgressThread, fetch: Fetch) -> None:
    wrong = egress.url.replace("serverpy:", "serverpy:x")
    with Origin(send_sized) as origin:
        assert fetch(origin.url, wrong).status == 407
        with pytest.raises(TunnelRefused, match="407"):
            fetch(f"https://127.0.0.1:{origin.port}/", wrong)
    assert origin.heads == []


def test_the_egress_refuses_a_request_without_token_before_any_dns_lookup(loop_factory: LoopFactory) -> None:
    looked_up: list[str] = []

    async def note(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        return ("127.0.0.1",)

    with EgressThread(LOOPBACK, lookup=note, loop_factory=loop_factory) as egress:
        parts = urlsplit(egress.url)
        reply = by_requests("http://site.example/", f"http://{parts.hostname}:{parts.port}")
    assert reply.status == 407
    assert looked_up == []


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"X" * MAX_HEAD_BYTES])
def test_the_egress_answers_a_malformed_or_oversized_head_with_400(egress: EgressThread, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(egress.url).port), timeout=DEADLINE) as connection:
        connection.sendall(head)
        assert read_to_end(connection).startswith(b"HTTP/1.1 400 ")
