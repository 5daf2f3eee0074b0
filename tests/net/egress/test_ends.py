"""Tests of how connections through the egress proxy end: the client and the origin learn of the end in time, and no
connection stays open."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from serverpy.net.egress import Egress, EgressLimits
from serverpy.net.tunnel import CHUNK_BYTES, ClientEnd
from tests.aio import wait_for
from tests.net.egress.clients import (
    LOOPBACK,
    Fetch,
    LoopFactory,
    Reply,
    TunnelRefused,
    asked,
    by_requests,
    connect_url,
    read_to_end,
)
from tests.net.egress.threads import EgressThread
from tests.net.origin import (
    BODY,
    DEADLINE,
    DIGEST,
    Origin,
    read_exactly,
    read_head,
    reset,
    send_sized,
    send_until_close,
    wait_for_end,
)


def test_the_client_of_the_egress_notices_that_the_origin_has_truncated_the_body(
    egress: EgressThread, fetch: Fetch
) -> None:
    def cut(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[:100_000])

    with Origin(cut) as origin, pytest.raises(Exception, match=r"(?i)incomplete|closed|bytes|reset|broken"):
        fetch(origin.url, egress.url)


def test_the_egress_resets_the_connection_of_the_client_if_the_origin_resets_a_body_without_length(
    egress: EgressThread,
) -> None:
    received = threading.Event()

    def cut(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of")
        received.wait(DEADLINE)
        reset(connection)

    with Origin(cut) as origin, asked(egress, origin.url) as connection:
        read_head(connection)
        assert read_exactly(connection, 7) == b"half of"
        received.set()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("ending", [reset, lambda connection: None], ids=["reset", "close"])
def test_the_egress_answers_502_if_the_origin_closes_the_connection_without_a_response(
    egress: EgressThread, fetch: Fetch, ending: Callable[[socket.socket], None]
) -> None:
    with Origin(lambda connection, head: ending(connection)) as origin:
        reply = fetch(origin.url, egress.url)
    assert (reply.status, reply.refused) == (502, "upstream_failed")


def test_the_egress_answers_502_if_the_response_of_the_origin_is_not_http(egress: EgressThread) -> None:
    with Origin(lambda connection, head: connection.sendall(b"220 mail.example\r\n\r\n")) as origin:
        assert by_requests(origin.url, egress.url).refused == "upstream_failed"


def test_the_egress_answers_502_if_the_response_head_of_the_origin_never_ends(egress: EgressThread) -> None:
    def endless(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: x\r\n" * 6000)
        wait_for_end(connection, head)

    with Origin(endless) as origin:
        assert by_requests(origin.url, egress.url).refused == "upstream_failed"


@pytest.mark.parametrize("ending", [reset, socket.socket.close], ids=["reset", "close"])
def test_the_egress_answers_502_if_the_origin_closes_the_connection_right_after_accepting_it(
    egress: EgressThread, ending: Callable[[socket.socket], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(20):
            with asked(egress, url) as connection:
                ending(listener.accept()[0])
                assert read_to_end(connection).startswith(b"HTTP/1.1 502 ")


def test_the_egress_answers_502_if_the_origin_refuses_the_connection(egress: EgressThread, fetch: Fetch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reply = fetch(f"http://127.0.0.1:{port}/", egress.url)
    assert (reply.status, reply.refused) == (502, "upstream_failed")
    with pytest.raises(TunnelRefused, match="502"):
        fetch(f"https://127.0.0.1:{port}/", egress.url)


@pytest.mark.parametrize("tunnel", [True, False])
def test_the_egress_closes_the_upstream_connection_if_its_client_disconnects(
    egress: EgressThread, tunnel: bool
) -> None:
    with Origin(wait_for_end) as origin:
        with asked(egress, connect_url(origin) if tunnel else origin.url, extra=b"\r\n\r\n" * tunnel):
            wait_for(lambda: egress.active == 1 and len(origin.heads) == 1)
        assert origin.left.wait(DEADLINE)
        wait_for(lambda: egress.active == 0)


def test_the_egress_closes_the_upstream_connection_if_its_client_disconnects_without_reading_the_response(
    egress: EgressThread,
) -> None:
    def flood(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            connection.sendall(BODY)

    with Origin(flood) as origin:
        with asked(egress, origin.url):
            wait_for(lambda: egress.egress.held_bytes > 0)
        assert origin.left.wait(DEADLINE)


def test_the_egress_cancels_the_dns_lookup_of_a_host_if_its_client_disconnects(loop_factory: LoopFactory) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def never(host: str, port: int) -> Sequence[str]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ()

    with EgressThread(LOOPBACK, lookup=never, loop_factory=loop_factory) as egress:
        with asked(egress, "http://slow.example/"):
            assert started.wait(DEADLINE)
        assert cancelled.wait(DEADLINE)


@contextlib.contextmanager
def limited(loop_factory: LoopFactory, **limits: Any) -> Iterator[EgressThread]:
    with EgressThread(LOOPBACK, limits=EgressLimits(**limits), loop_factory=loop_factory) as egress:
        yield egress


def test_the_egress_answers_504_if_the_origin_sends_no_response(loop_factory: LoopFactory, fetch: Fetch) -> None:
    with limited(loop_factory, idle_seconds=0.2) as egress, Origin(wait_for_end) as origin:
        reply = fetch(origin.url, egress.url)
        assert origin.left.wait(DEADLINE)
    assert (reply.status, reply.refused) == (504, "upstream_timeout")


def test_a_dns_server_that_does_not_answer_is_reported_as_upstream_timeout(loop_factory: LoopFactory) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    limits = EgressLimits(connect_seconds=0.1)
    with EgressThread(LOOPBACK, limits=limits, lookup=never, loop_factory=loop_factory) as egress:
        assert by_requests("http://slow.example/", egress.url).refused == "upstream_timeout"


def test_the_egress_resets_an_idle_tunnel(loop_factory: LoopFactory) -> None:
    with (
        limited(loop_factory, idle_seconds=1.0) as egress,
        Origin(wait_for_end) as origin,
        asked(egress, connect_url(origin), extra=b"\r\n\r\n") as connection,
    ):
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_connection_does_not_count_as_idle_while_its_client_does_not_read(loop_factory: LoopFactory) -> None:
    with (
        limited(loop_factory, idle_seconds=1.0) as egress,
        Origin(send_until_close) as origin,
        Origin(wait_for_end) as silent,
        asked(egress, origin.url) as paused,
    ):
        wait_for(lambda: egress.egress.held_bytes > 0)
        assert by_requests(silent.url, egress.url).refused == "upstream_timeout"
        read_head(paused)
        assert hashlib.sha256(read_to_end(paused)).hexdigest() == DIGEST


def test_the_egress_answers_400_if_its_client_sends_no_request(loop_factory: LoopFactory) -> None:
    with limited(loop_factory, head_seconds=0.1) as egress:
        port = urlsplit(egress.url).port
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            assert read_to_end(connection).startswith(b"HTTP/1.1 400 ")


def test_the_egress_answers_503_to_a_connection_beyond_the_limit(loop_factory: LoopFactory) -> None:
    with limited(loop_factory, connections=1) as egress, Origin(wait_for_end) as origin:
        with asked(egress, origin.url):
            wait_for(lambda: egress.active == 1)
            reply = by_requests(origin.url, egress.url)
        assert (reply.status, reply.refused) == (503, "busy")


def test_closing_the_egress_cuts_running_connections(loop_factory: LoopFactory) -> None:
    with (
        Origin(wait_for_end) as origin,
        Origin(send_until_close) as flooding,
        EgressThread(LOOPBACK, loop_factory=loop_factory) as egress,
    ):
        with asked(egress, origin.url) as silent, asked(egress, flooding.url), asked(egress, connect_url(origin)):
            wait_for(lambda: egress.active == 3 and egress.egress.held_bytes > 0)
            egress.close()
            assert silent.recv(1) == b""
        egress.close()
        assert origin.left.wait(DEADLINE)
        assert egress.active == 0


def test_no_connection_stays_open_in_the_egress_after_many_clients_have_connected_and_disconnected(
    loop_factory: LoopFactory,
) -> None:
    """Some of the clients leave while the egress is still connecting to the origin."""

    def come_and_go(number: int) -> None:
        with asked(egress, connect_url(origin) if number % 2 else origin.url) as connection:
            if number % 3:
                connection.recv(1)
            if number % 5 == 0:
                reset(connection)

    with Origin(send_sized) as origin, EgressThread(LOOPBACK, loop_factory=loop_factory) as egress:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(come_and_go, range(200)))
        # Private attributes, because `active` does not count the connections of clients that have not sent a request
        # yet.
        wait_for(lambda: not egress.egress._clients and not egress.egress._upstreams)


def test_a_client_that_resets_its_connection_before_the_response_ends_causes_no_error_in_the_log(
    loop_factory: LoopFactory,
) -> None:
    """The client resets the connection before the egress sends an empty response. The egress then notices the reset in
    `shutdown` of the socket, not in a write."""

    async def main() -> None:
        lost = asyncio.Event()

        def opened(client: ClientEnd) -> None:
            reset(peer)
            client.respond(b"")

        buffer = memoryview(bytearray(CHUNK_BYTES))
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientEnd(buffer, opened, lambda client: lost.set()), "127.0.0.1", 0
        )
        peer = socket.create_connection(server.sockets[0].getsockname())
        await asyncio.wait_for(lost.wait(), DEADLINE)
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_closing_the_egress_closes_a_connection_that_is_still_being_opened(loop_factory: LoopFactory) -> None:
    started = threading.Event()

    async def never(host: str, port: int) -> Sequence[str]:
        started.set()
        await asyncio.Event().wait()
        return ()

    with (
        EgressThread(LOOPBACK, lookup=never, loop_factory=loop_factory) as egress,
        asked(egress, "http://slow.example/") as connection,
    ):
        assert started.wait(DEADLINE)
        egress.close()
        assert connection.recv(1) == b""


def test_the_egress_keeps_running_on_the_event_loop_that_started_it(loop_factory: LoopFactory) -> None:
    async def main() -> Reply:
        egress = Egress(LOOPBACK)
        await egress.start()
        try:
            return await asyncio.to_thread(by_requests, origin.url, egress.url)
        finally:
            await egress.aclose()
            await egress.aclose()

    with Origin(send_sized) as origin, asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()).body == BODY
