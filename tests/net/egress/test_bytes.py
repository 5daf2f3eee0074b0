"""Tests that the egress proxy forwards bytes unchanged and in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import trustme

from serverpy.net.tunnel import CHUNK_BYTES
from tests.aio import wait_for
from tests.net.egress.clients import Fetch, asked, by_requests, read_to_end
from tests.net.egress.threads import EgressThread
from tests.net.origin import (
    BODY,
    DEADLINE,
    DIGEST,
    Origin,
    digest_of_upload,
    read_exactly,
    read_head,
    send_chunked,
    send_sized,
    send_until_close,
)


@dataclass(frozen=True)
class Tls:
    server: ssl.SSLContext
    ca: str


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return Tls(context, str(path))


@pytest.mark.parametrize("handler", [send_sized, send_chunked, send_until_close])
def test_a_large_response_body_arrives_unchanged_through_the_egress(
    egress: EgressThread, fetch: Fetch, handler: Callable[[socket.socket, bytes], None]
) -> None:
    with Origin(handler) as origin:
        reply = fetch(origin.url, egress.url)
    assert reply.status == 200
    assert hashlib.sha256(reply.body).hexdigest() == DIGEST
    assert reply.headers["connection"] == "close"


def test_a_large_response_body_arrives_unchanged_through_a_tls_tunnel_of_the_egress(
    egress: EgressThread, fetch: Fetch, tls: Tls
) -> None:
    with Origin(send_sized, tls.server) as origin:
        reply = fetch(origin.url, egress.url, ca=tls.ca)
    assert hashlib.sha256(reply.body).hexdigest() == DIGEST


def test_an_uploaded_request_body_arrives_unchanged_through_the_egress(egress: EgressThread, fetch: Fetch) -> None:
    with Origin(digest_of_upload) as origin:
        assert fetch(origin.url, egress.url, data=BODY).body.decode() == DIGEST


def test_a_chunked_request_body_keeps_its_chunks_through_the_egress(egress: EgressThread) -> None:
    def echo(connection: socket.socket, head: bytes) -> None:
        assert b"transfer-encoding: chunked" in head.lower()
        received = read_exactly(connection, len(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(received), received))

    with Origin(echo) as origin, requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            origin.url, data=iter([b"hello", b" world"]), proxies={"http": egress.url}, timeout=DEADLINE
        )
    assert answer.content == b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


def test_the_egress_forwards_no_header_field_that_is_meant_for_a_proxy(egress: EgressThread, fetch: Fetch) -> None:
    with Origin(send_sized) as origin:
        fetch(origin.url, egress.url)
    (head,) = origin.heads
    assert head.startswith(b"GET /file?q=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % origin.port)
    assert b"proxy-" not in head.lower()
    assert head.lower().count(b"connection:") == 1


def test_the_egress_forwards_an_interim_response_before_the_final_response(egress: EgressThread) -> None:
    def hint(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Origin(hint) as origin, asked(egress, origin.url) as connection:
        received = read_to_end(connection)
    assert received.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert received.endswith(b"Connection: close\r\n\r\nok")


def test_a_server_may_send_the_first_bytes_through_a_tunnel_of_the_egress_before_the_client_sends_any(
    egress: EgressThread,
) -> None:
    def welcome(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"welcome")
            assert read_exactly(accepted, 6) == b"thanks"

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(welcome, listener)
        with asked(egress, f"connect://127.0.0.1:{listener.getsockname()[1]}") as connection:
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")
            assert read_exactly(connection, 7) == b"welcome"
            connection.sendall(b"thanks")
            served.result(DEADLINE)


def test_fifty_paused_connections_through_the_egress_hold_a_bounded_number_of_bytes(egress: EgressThread) -> None:
    """The egress may hold one chunk for each paused connection: a chunk of the response, because the client sends no
    more bytes. In measurements, the transports of all connections buffered 0.4 to 0.8 MB, and tracemalloc counted 1.1
    to 2.1 MB, including the sockets and threads of the test."""
    count = 50
    with Origin(send_sized) as origin, contextlib.ExitStack() as stack:
        by_requests(origin.url, egress.url)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        connections = [stack.enter_context(asked(egress, origin.url)) for _ in range(count)]
        ends = egress.egress._clients  # a private attribute, because no public one tells which clients are congested
        wait_for(lambda: egress.active == count and all(client.congested for client in list(ends)))
        held = egress.egress.held_bytes
        traced = tracemalloc.get_traced_memory()[0] - before
        assert 0 < held <= count * (CHUNK_BYTES + 1024)
        assert traced < count * 2 * CHUNK_BYTES
        for connection in connections[:3]:
            read_head(connection)
            assert hashlib.sha256(read_exactly(connection, len(BODY))).hexdigest() == DIGEST


def test_each_of_many_concurrent_connections_through_the_egress_gets_its_own_bytes(egress: EgressThread) -> None:
    """All connections share one receive buffer of the egress."""

    def send_own(connection: socket.socket, head: bytes) -> None:
        name = head.split(b" ")[1]
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + name * (1_000_000 // len(name)))

    with Origin(send_own) as origin, ThreadPoolExecutor(12) as pool:
        names = [f"/{number}" for number in range(24)]
        urls = [f"http://127.0.0.1:{origin.port}{name}" for name in names]
        replies = pool.map(lambda url: by_requests(url, egress.url), urls)
        for name, reply in zip(names, replies, strict=True):
            assert reply.body == name.encode() * (1_000_000 // len(name))
